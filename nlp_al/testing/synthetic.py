"""Small random signals of each task shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from nlp_al.decisions import Decisions, owners
from nlp_al.signals import (
    SURPRISALS,
    Gradients,
    Signals,
    residual,
)
from nlp_al.signals.collector import SCORED
from nlp_al.signals.first_stage import MARGIN
from nlp_al.signals.sampled import statistics
from nlp_al.strategies.base import SHAPES

WIDTH = 6
POOL = 24
LABELLED = 6
UNDECIDED = 3
MEMBERS = 5
_ANNOTATORS = 3
_TAGGING = torch.zeros(5, 4)  # outside, beginning and inside of one kind, beginning of another
_TAGGING[[0, 3, 4], 2] = -torch.inf  # inside follows on its own kind alone


def synthetic_signals(
    shape: str, n: int = POOL, seed: int = 0, *, labelled: int = LABELLED, undecided: int = 0, cost: bool = False
) -> Signals:
    """Random signals of n examples with every field there is, and of `labelled` others in each other role.

    shape: `single` (a decision over 4 options), `multi` (3 decisions yes or no), `sequence` (1 to 6 decisions over 4
    options, of which column 0 is outside and some transitions are forbidden) or `ranking` (a decision over 2 to 5).
    undecided: so many examples, anywhere in the pool, have nothing to decide: no words, a single candidate, or False in
    `askable`. cost: 1 to 9 words each, else absent.

    Raises:
        ValueError: there is no such shape.
    """
    if shape not in SHAPES:
        raise ValueError(f"There is no shape {shape!r}; there are {', '.join(SHAPES)}.")
    generator = torch.Generator().manual_seed(seed)

    def between(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (n,), generator=generator)

    def normal(rows: int, columns: int = WIDTH) -> Tensor:
        return torch.randn(rows, columns, generator=generator)

    decided = torch.ones(n, dtype=torch.bool)
    decided[torch.randperm(n, generator=generator)[:undecided]] = False
    lengths = torch.full((n,), 3 if shape == "multi" else 1)
    if shape == "sequence":
        lengths = between(1, 6) * decided
    offsets = _offsets(lengths)
    options = torch.where(decided, between(2, 5), 1) if shape == "ranking" else None
    columns = {"multi": 2, "ranking": 5}.get(shape, 4)
    logits = normal(int(offsets[-1]), columns)
    probs = logits.softmax(1)
    embeddings = normal(n)
    if options is not None:
        valid = torch.arange(columns) < options[:, None]
        probs = logits.masked_fill(~valid, -torch.inf).softmax(1)
        gradients = Gradients(residual(probs)[valid][:, None], normal(int(options.sum())), _offsets(options))
        probs = torch.where(valid, probs, logits)  # what is no option holds rubbish, as padding does
    elif shape == "sequence":
        share = lengths[owners(offsets)][:, None]
        gradients = Gradients(residual(probs) / share, normal(len(probs)), offsets)
    elif shape == "multi":
        yes = probs[:, 0].reshape(n, 3)
        gradients = Gradients(yes - (yes > 0.5).float(), embeddings, torch.arange(n + 1))
    else:
        gradients = Gradients(residual(probs), embeddings, offsets)
    passes = _members_of(probs, options, torch.Generator().manual_seed(seed + 2))
    drawn = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed + 3)).relu()
    surprisals: dict[str, Any] = {name: drawn + at * drawn.sign() for at, name in enumerate(SURPRISALS)}
    sampled = statistics(Decisions(member, offsets, options) for member in passes)
    most = torch.full((len(probs),), columns) if options is None else options
    targets = (torch.rand(len(probs), generator=torch.Generator().manual_seed(seed + 4)) * most).long()
    votes = _votes(targets, most, torch.Generator().manual_seed(seed + 6))
    out_of_fold = _members_of(probs, options, torch.Generator().manual_seed(seed + 7))[0]
    if options is not None:
        passes, out_of_fold = torch.where(valid, passes, logits), torch.where(valid, out_of_fold, logits)
        # Votes are counted of options alone.
        rubbish = {"mean": logits.double(), "squares": logits.double()}
        sampled = sampled.each(lambda name, held: torch.where(valid, held, rubbish[name]) if name in rubbish else held)
    return Signals(
        probs=probs,
        offsets=offsets,
        options=options,
        sampled=sampled,
        passes=passes,
        targets=targets,
        votes=votes,
        out_of_fold=out_of_fold,
        embeddings=embeddings,
        pretrained=normal(n),
        **surprisals,
        scores=random_scores([*SCORED, MARGIN], n, seed),
        gradients=gradients,
        cost=between(1, 9) if cost else None,
        askable=decided,
        asked=torch.arange(n) // 3,
        transitions=_TAGGING if shape == "sequence" else None,
        outside=0 if shape == "sequence" else None,
        labelled=synthetic_signals(shape, labelled, seed + 1, labelled=0, cost=cost) if labelled else None,
        validation=synthetic_signals(shape, labelled, seed + 5, labelled=0) if labelled else None,
    )


def _votes(targets: Tensor, most: Tensor, generator: torch.Generator) -> Tensor:
    """int64[M, J]: the first annotator gives the targets, the others anything, or nothing, which is −1."""
    drawn = torch.rand(len(targets), _ANNOTATORS - 1, generator=generator)
    others = (drawn * (most[:, None] + 1)).long() - 1
    return torch.cat([targets[:, None], others], dim=1)


def _members_of(probs: Tensor, options: Tensor | None, generator: torch.Generator) -> Tensor:
    """float[T, M, O]: distributions around the given ones."""
    if options is not None:
        probs = probs.masked_fill(torch.arange(probs.shape[1]) >= options[:, None], 0.0)
    noise = torch.randn(MEMBERS, *probs.shape, generator=generator)
    return (probs.log() + noise).softmax(2)


def random_scores(names: Iterable[str], n: int, seed: int) -> dict[str, Tensor]:
    """Random ones by name, of which the last is minus infinity."""
    made = {}
    for name in names:
        made[name] = torch.randn(n, generator=torch.Generator().manual_seed(seed + sum(name.encode())))
        made[name][-1:] = -torch.inf
    return made


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
