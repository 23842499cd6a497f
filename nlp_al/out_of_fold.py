"""What models say of labelled examples that they did not learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch

from nlp_al.errors import RunError
from nlp_al.pool import Example
from nlp_al.signals import Signals
from nlp_al.signals.collector import Scorer, collect
from nlp_al.signals.merging import merge, ordered
from nlp_al.signals.targets import targets
from nlp_al.tasks import Task

Labelled = Sequence[tuple[Example, Any]]


def out_of_fold(
    task: Task, fit: Callable[[Labelled], Scorer], labelled: Labelled, folds: int, generator: torch.Generator
) -> Signals | None:
    """probs of each labelled example, by the model of all folds but its own, and its label as targets.

    Equal labels are spread over the folds, so that a label with two examples is learnt for either of them. All
    processes call it together; the main one alone gets the record.

    Raises:
        RunError: without one fold all labels are of one class, or there are fewer examples than folds.
    """
    if len(labelled) < folds:
        raise RunError(f"{len(labelled)} examples are labelled; {folds} folds take that many at least.")
    order = sorted(range(len(labelled)), key=lambda at: json.dumps(labelled[at][1]))
    found = []
    for fold in range(folds):
        held = order[fold::folds]
        rest = [labelled[at] for at in sorted(set(order) - set(held))]
        if task.only_label([label for _, label in rest]) is not None:
            raise RunError("There is too little to learn from: leaving out a fold, all labels are of one class.")
        model = fit(rest)
        said = collect(model, [labelled[at][0] for at in held], {"probs"}, generator)
        model.rest()
        if said is not None:
            found.append((held, said))
    return merge([ordered(found), targets(task, labelled)]) if found else None
