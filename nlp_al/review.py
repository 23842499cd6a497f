"""The labels of a run that are likely to be wrong, for people to look at again."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlp_al.bench import Bench
from nlp_al.confident_learning import ISSUES
from nlp_al.config import Config
from nlp_al.decisions import Decisions, owners
from nlp_al.errors import RunError
from nlp_al.export import write_csv
from nlp_al.out_of_fold import Labelled, out_of_fold
from nlp_al.pool import Example, Pool
from nlp_al.run_files import run_config, run_pool
from nlp_al.signals import Signals
from nlp_al.signals.collector import Scorer
from nlp_al.tasks import Task
from nlp_al.training.fit import Fitter
from nlp_al.training.frozen import fit_head


@dataclass(frozen=True)
class Doubt:
    """An example whose label is likely to be wrong.

    suggested: the label with the doubtful decisions as the model would have them. decisions: which these are, by their
    place in the example. confidence: the lowest probability of what one of them has now.
    """

    example: Example
    label: Any
    suggested: Any
    decisions: list[int]
    confidence: float


@dataclass(frozen=True)
class Labels:
    """The labels of a run as they are now."""

    config: Config
    bench: Bench
    pool: Pool
    labelled: Labelled

    @classmethod
    def of(cls, run: Path) -> Labels:
        """Reads them; UserError where the folder is no run's, RunError where it has none."""
        config = run_config(run)
        bench = Bench.of(config)
        pool = run_pool(run, bench.splits["train"], bench.task)
        labels = pool.labels()
        labelled = [(example, labels[example.id]) for example in pool.examples if example.id in labels]
        if not labelled:
            raise RunError(f"{run} has no labels yet.")
        return cls(config, bench, pool, labelled)


def review(known: Labels, out: Path, folds: int, by: str) -> list[Doubt]:
    """The examples whose labels are doubtful, the least sure first; they are written as a table, too.

    The probabilities are those of models of the run's kind, each fitted without the part, one of `folds`, that it
    judges.

    Raises:
        RunError: there are too few labels.
    """
    task = known.bench.task
    found = doubts(task, known.labelled, judged(known.config, known.bench, known.labelled, folds), by)
    _write(out, found, known.pool, task)
    return found


def judged(config: Config, bench: Bench, labelled: Labelled, folds: int) -> Signals:
    """probs and targets of labelled examples: heads on frozen features, or as many fine-tuned models as folds."""
    fitter = Fitter(config, bench.task, bench.encoder)
    if fitter.frozen:
        bench.encoder.encode([example for example, _ in labelled])

    def fit(part: Labelled) -> Scorer:
        if fitter.frozen:
            return fit_head(bench.encoder, bench.task, part)
        return fitter.another(part, config.loop.seed)

    found = out_of_fold(bench.task, fit, labelled, folds, torch.Generator().manual_seed(config.loop.seed))
    assert found is not None
    return found


def doubts(task: Task, labelled: Labelled, signals: Signals, by: str = "confident_joint") -> list[Doubt]:
    """The doubtful ones, the least sure first.

    Words share what is known of their tags, labels that are yes or no are judged one by one, and of a choice among
    responses each candidate is a question of its own: does it fit or not? An option that one example alone has is not
    judged, for no model knew it.
    """
    probs, given, owner, kind = _ranked(signals) if task.shape == "ranking" else _plain(signals, task)
    wrong = torch.zeros(len(given), dtype=torch.bool)
    for one in kind.unique().tolist():
        rows = torch.nonzero((kind == one) & _known(given, owner, kind)).flatten()
        if len(rows):
            wrong[rows] = ISSUES[by](probs[rows], given[rows])
    decisions, targets = signals.decisions, signals.targets
    assert targets is not None
    sure = decisions.masked.gather(1, targets[:, None])[:, 0]
    others = _options(decisions).scatter(1, targets[:, None], -1.0).argmax(dim=1)
    if task.shape == "ranking":  # a candidate in doubt is the choice in doubt
        wrong = torch.zeros(len(decisions), dtype=torch.bool).index_fill_(0, owner[wrong], True)
    found = []
    for (example, label), (start, end) in zip(labelled, itertools.pairwise(decisions.offsets.tolist()), strict=True):
        places = torch.nonzero(wrong[start:end]).flatten()
        if len(places):
            suggested = _instead(task, example, label, places.tolist(), others[start:end].tolist())
            found.append(Doubt(example, label, suggested, places.tolist(), float(sure[start:end][places].min())))
    return sorted(found, key=lambda doubt: doubt.confidence)


def _plain(signals: Signals, task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The decisions as they are; which example and which kind of question each is."""
    offsets, targets = signals.decisions.offsets, signals.targets
    assert targets is not None
    owner = owners(offsets)
    kind = torch.zeros_like(owner) if task.alike else torch.arange(len(owner)) - offsets[owner]
    return signals.decisions.masked, targets, owner, kind


def _ranked(signals: Signals) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A row an option: whether it fits (0) or not (1); a single option is no choice."""
    decisions, targets = signals.decisions, signals.targets
    assert decisions.options is not None
    assert targets is not None
    columns = torch.arange(decisions.probs.shape[1])
    real = (columns < decisions.options[:, None]) & (decisions.options[:, None] > 1)
    owner = torch.nonzero(real)[:, 0]
    yes = decisions.masked[real]
    given = (columns != targets[:, None])[real].long()
    return torch.stack([yes, 1.0 - yes], dim=1), given, owner, torch.zeros_like(owner)


def _options(decisions: Decisions) -> Tensor:
    """float[M, O]: the probabilities, −1 in the columns that are no option."""
    if decisions.options is None:
        return decisions.probs
    return decisions.probs.masked_fill(torch.arange(decisions.probs.shape[1]) >= decisions.options[:, None], -1.0)


def _known(given: Tensor, owner: Tensor, kind: Tensor) -> Tensor:
    """bool[M]: whether more than one example has the option that a decision has."""
    has = torch.stack([kind, given, owner], dim=1).unique(dim=0)[:, :2]
    options, counts = has.unique(dim=0, return_counts=True)
    known = {tuple(option) for option, count in zip(options.tolist(), counts.tolist(), strict=True) if count > 1}
    return torch.tensor([pair in known for pair in zip(kind.tolist(), given.tolist(), strict=True)], dtype=torch.bool)


def _instead(task: Task, example: Example, label: Any, places: list[int], others: list[int]) -> Any:
    """The label with other options in these decisions."""
    columns = task.columns_of(label, example)
    changed = [others[at] if at in places else column for at, column in enumerate(columns)]
    return task.label_of(changed, example)


def _write(out: Path, found: list[Doubt], pool: Pool, task: Task) -> None:
    last = pool.last()
    rows = []
    for doubt in found:
        example = doubt.example
        rows.append(
            {
                "id": example.id,
                **task.question(example.inputs),
                "label": doubt.label,
                "suggested": doubt.suggested,
                "confidence": round(doubt.confidence, 4),
                "doubtful": [subject for at in doubt.decisions if (subject := task.subjects(example)[at])],
                "annotators": [answer.annotator for answer in last[example.id] if answer.status == "submitted"],
            }
        )
    shown = list(dict.fromkeys(name for doubt in found for name in task.question(doubt.example.inputs)))
    write_csv(out, rows, ["id", *shown, "label", "suggested", "confidence", "doubtful", "annotators"])
