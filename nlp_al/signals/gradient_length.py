"""How much a label would change a model, before it is known: expected lengths of gradients.

A label is weighed by how probable the model finds it. Of each decision the `options` most probable ones are looked at;
of decisions that are questions of their own, as labels that are yes or no, the `options` least sure ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nlp_al.decisions import Decisions, owners, segment_max, segment_mean
from nlp_al.errors import UserError
from nlp_al.signals.live import Item, Live, Reading
from nlp_al.tasks import Task


def egl_word(live: Live, items: Sequence[Item], options: int = 3) -> Tensor:
    """max over the distinct words w of Σ_c p_c ‖∂ℓ(x, c) / ∂w‖: float64[n], 0 for a text without words.

    By a word is differentiated as by a vector that is added to all its tokens, wherever it stands: for words of one
    token that is their row of the embeddings. A label of a sentence gives all its words their first, second, ... tag,
    ℓ being the mean of their losses and p_c the mean of the tags' probabilities; over labels that are yes or no there
    is a sum.
    """
    found = torch.zeros(len(items), dtype=torch.float64)
    for places, reading in live.readings(items):
        with live.differentiating():
            found[places] = _longest_word(reading, options)
    return found


def _longest_word(reading: Reading, options: int) -> Tensor:
    moved = reading.unmoved().requires_grad_()
    decisions = reading.decisions(moved)
    owner = owners(reading.words)
    piece = owners(reading.pieces).to(reading.word.device)
    own = reading.word > 0
    place = (reading.words.to(piece.device)[piece, None] + reading.word - 1)[own]
    expected = torch.zeros(len(owner), dtype=torch.float64)
    for sure, loss in _whole_labels(decisions, reading.live.task, options):
        (slope,) = torch.autograd.grad(loss.sum(), moved, retain_graph=True)
        words = slope.new_zeros(len(owner), slope.shape[2]).index_add_(0, place, slope[own])
        expected += sure.detach().double()[owner] * torch.linalg.vector_norm(words, dim=1).cpu().double()
    return segment_max(expected, reading.words).clamp(min=0)


def _whole_labels(decisions: Decisions, task: Task, options: int) -> Iterator[tuple[Tensor, Tensor]]:
    """How probable labels of examples are, and their losses, float[n] each; decisions of their own one by one."""
    if task.alike:
        for sure, loss in _options(decisions.masked, options):
            yield segment_mean(sure, decisions.offsets), segment_mean(loss, decisions.offsets)
        return
    for rows in _doubtful(decisions, options).unbind(1):
        yield from _options(decisions.masked[rows])


def _doubtful(decisions: Decisions, options: int) -> Tensor:
    """int64[n, Q]: of each example, all of which have as many decisions, those that are least sure."""
    sure = decisions.masked.detach().amax(1).reshape(len(decisions), -1)
    places: Tensor = decisions.offsets[:-1, None] + sure.argsort(dim=1, stable=True)[:, :options]
    return places


def _options(probs: Tensor, options: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """The first, second, ... most probable option of float[M, O] rows and its loss, float[M] each."""
    for sure in probs.sort(dim=1, descending=True, stable=True).values[:, :options].unbind(1):
        yield sure, -sure.clamp(min=torch.finfo(sure.dtype).tiny).log()


def egl(live: Live, items: Sequence[Item], layers: str = "", options: int = 3, squared: bool = False) -> Tensor:
    """Σ_c p_c ‖∂ℓ(x, c) / ∂θ‖ over the weights θ whose name has a match of the regular expression `layers`: float64[n].

    Over the words of a sentence it is their mean, over labels that are yes or no their sum. squared: Σ_c p_c ‖·‖².

    Raises:
        UserError: no weight has such a name.
    """
    names = [name for name in live.weights if re.search(layers, name)]
    if not names:
        known = ", ".join(list(live.weights)[-3:])
        raise UserError(f"layers is {layers!r}, which matches no weight of the model; they have names like {known}.")
    found = torch.zeros(len(items), dtype=torch.float64)
    for at, item in enumerate(items):
        if item.pieces:
            with live.differentiating(names):
                found[at] = _length(Reading(live, [item]), [live.weights[name] for name in names], options, squared)
    return found


def _length(reading: Reading, weights: Sequence[Tensor], options: int, squared: bool) -> float:
    decisions, alike = reading.decisions(), reading.live.task.alike
    rows = torch.arange(len(decisions.probs)) if alike else _doubtful(decisions, options)[0]
    total = 0.0
    for row in decisions.masked[rows].split(1):
        for sure, loss in _options(row, options if alike else None):
            slopes = torch.autograd.grad(loss.sum(), weights, retain_graph=True, allow_unused=True)
            square = sum(float(torch.linalg.vector_norm(slope)) ** 2 for slope in slopes if slope is not None)
            total += float(sure.detach()) * (square if squared else square**0.5)
    return total / max(len(rows), 1) if alike else total
