"""What a model computes for a few examples, held all at once: to fit something else to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nlp_al.pool import Example
from nlp_al.processes import gathered, processes
from nlp_al.signals import take_rows
from nlp_al.signals.collector import Scorer
from nlp_al.signals.features import in_order
from nlp_al.tasks import Rows


def read_rows(scorer: Scorer, examples: Sequence[Example]) -> Rows | None:
    """The rows of at least one example, in their order; None on all processes but the main one.

    All processes call it together.
    """
    state = processes()
    prepared, batches = scorer.prepare(examples)
    if not scorer.sharded and not state.is_main_process:
        return None
    mine = batches[state.process_index :: state.num_processes] if scorer.sharded else batches
    with torch.inference_mode():
        found = [(members, scorer.rows([prepared[at] for at in members])) for members in mine]
    if scorer.sharded:
        found = gathered(found)
    if not state.is_main_process:
        return None
    hidden, offsets = in_order([(members, rows.hidden, rows.offsets) for members, rows in found])
    logits = [(members, rows.logits, rows.offsets) for members, rows in found if rows.logits is not None]
    context = [(m, rows.context, torch.arange(len(m) + 1)) for m, rows in found if rows.context is not None]
    return Rows(hidden, in_order(logits)[0] if logits else None, offsets, in_order(context)[0] if context else None)


def take_examples(rows: Rows, indices: torch.Tensor) -> Rows:
    """The rows of some examples, in the order given; one may come more than once."""
    places, offsets = take_rows(rows.offsets, indices)
    logits = None if rows.logits is None else rows.logits[places]
    return Rows(rows.hidden[places], logits, offsets, None if rows.context is None else rows.context[indices])
