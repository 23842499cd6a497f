"""How little must be added to a text's token embeddings for another prediction.

Ducoffe & Precioso 2018, arXiv 1802.09841. An example's predictions are those of all its decisions, and another one for
any of them will do. The gap to it is ln p(predicted) − ln p(other), the difference of their logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nlp_al.decisions import Decisions, owners, segment_max
from nlp_al.signals import take_rows
from nlp_al.signals.live import Item, Live, Reading

TOLERANCE = 1e-6
"""Relative to 1 + |ln p|; a gap that is no wider is closed, as a step lands on the boundary and not behind it."""
OVERSHOOT = 1.02
"""How much farther than DeepFool's steps lead is looked for another prediction; what is told leaves it out."""


class _Gaps(NamedTuple):
    """What keeps the predictions of some examples as they are.

    offsets: int64[n + 1], the decisions of each example. predicted: int64[M]. nearest: int64[n, Q], the closest gaps of
    each example, as row · O + column counted from its first decision, the narrowest first.
    """

    offsets: Tensor
    predicted: Tensor
    columns: int
    nearest: Tensor

    def only(self, kept: Tensor) -> _Gaps:
        rows, offsets = take_rows(self.offsets, kept)
        return _Gaps(offsets, self.predicted[rows], self.columns, self.nearest[kept])

    def of(self, decisions: Decisions) -> Tensor:
        """float[M, O], infinite where there is no other option; differentiable."""
        probs = decisions.masked
        missing = self.columns - probs.shape[1]  # of fewer examples, the most options may be fewer
        probs = torch.nn.functional.pad(probs, (0, missing))
        logs = probs.clamp(min=torch.finfo(probs.dtype).tiny).log()
        never = (probs <= 0).scatter(1, self.predicted[:, None], True)
        return (logs.gather(1, self.predicted[:, None]) - logs).masked_fill(never, torch.inf)

    def closed(self, gaps: Tensor, decisions: Decisions) -> Tensor:
        """bool[n]: whether any prediction has changed, or would as easily as not."""
        sure = decisions.masked.gather(1, self.predicted[:, None])[:, 0]
        allowed = TOLERANCE * (1 - sure.clamp(min=torch.finfo(sure.dtype).tiny).log())
        return segment_max((gaps.amin(1) <= allowed).double(), self.offsets) > 0

    def loss(self, decisions: Decisions) -> Tensor:
        """−ln p of the prediction that is closest to another one, float[n]; differentiable."""
        rows = torch.where(self.nearest[:, 0] < 0, 0, self.offsets[:-1] + self.nearest[:, 0] // self.columns)
        sure = decisions.masked[rows, self.predicted[rows]]
        return -sure.clamp(min=torch.finfo(sure.dtype).tiny).log()

    def near(self, gaps: Tensor) -> Tensor:
        """float[n, Q]: the gaps that were the closest ones at first."""
        places = torch.where(self.nearest < 0, 0, self.offsets[:-1, None] * self.columns + self.nearest)
        return gaps.flatten()[places].masked_fill(self.nearest < 0, torch.inf)


def _gaps_of(decisions: Decisions, most: int) -> _Gaps:
    """Of unmoved examples. most: how many gaps of each are the nearest."""
    predicted = decisions.masked.argmax(1)
    columns = decisions.probs.shape[1]
    found = _Gaps(decisions.offsets, predicted, columns, decisions.offsets.new_zeros(0))
    width = int(decisions.offsets.diff().max()) * columns
    whole = torch.full((len(decisions), width), torch.inf)
    rows = owners(decisions.offsets)
    first = (torch.arange(len(rows)) - decisions.offsets[rows]) * columns
    whole[rows[:, None], first[:, None] + torch.arange(columns)] = found.of(decisions).detach().float()
    narrowest = whole.sort(dim=1, stable=True)
    return found._replace(nearest=narrowest.indices.masked_fill(narrowest.values.isinf(), -1)[:, :most])


_Step = Callable[[Reading, _Gaps, Decisions, Tensor], Tensor]
"""(the examples, their gaps, their decisions with something added, that) to what is to be added more."""


def adv_bim(live: Live, items: Sequence[Item], steps: int = 50, size: float = 0.05) -> Tensor:
    """−‖η‖² of the first sum of equal steps up the loss of the prediction that changes it: float64[n].

    A step goes the same way in all coordinates, by the sign of the gradient; it moves each token by `size` times the
    mean length of the example's embedded tokens. Of several decisions the loss is that of the one that is closest to
    another option. At most `steps`; −inf where they are not enough.
    Kurakin, Goodfellow & Bengio 2016, arXiv 1607.02533.
    """

    def step(reading: Reading, gaps: _Gaps, decisions: Decisions, moved: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(gaps.loss(decisions).sum(), moved)
        # By coordinate. `size` lengths in each of 768 would move a token by 1.4 lengths, to another one at once.
        return reading.spread(size * _mean_length(reading) / slope.shape[2] ** 0.5) * slope.sign()

    return _searched(live, items, steps, 1, 1.0, step)


def adv_deepfool(live: Live, items: Sequence[Item], steps: int = 50, options: int = 10) -> Tensor:
    """−‖η‖² of DeepFool's η, a sum of steps to where the nearest boundary would be, were all linear: float64[n].

    The boundaries are those of the `options` narrowest gaps of an example. At most `steps`; −inf where they are not
    enough. Moosavi-Dezfooli, Fawzi & Frossard 2016, arXiv 1511.04599.
    """

    def step(reading: Reading, gaps: _Gaps, decisions: Decisions, moved: Tensor) -> Tensor:
        near = gaps.near(gaps.of(decisions))
        best = torch.full((len(reading),), torch.inf, dtype=torch.float64)
        chosen = torch.zeros_like(moved)
        for gap in near.unbind(1):
            finite = gap.isfinite()
            if not finite.any():
                continue
            (slope,) = torch.autograd.grad(torch.where(finite, gap, 0.0).sum(), moved, retain_graph=True)
            slope = slope * reading.real[:, :, None]
            square = reading.sums(slope.square().sum((1, 2)))
            away = torch.where(finite & (square > 0), gap.detach().double(), torch.inf).abs() / square.sqrt()
            closer = away < best
            best = torch.where(closer, away, best)
            factor = reading.spread(torch.where(closer, -gap.detach().double() / square, 0.0))
            chosen = torch.where(reading.spread(closer) > 0, factor * slope, chosen)
        return chosen

    return _searched(live, items, steps, options, OVERSHOOT, step)


def _searched(live: Live, items: Sequence[Item], steps: int, most: int, farther: float, step: _Step) -> Tensor:
    found = torch.full((len(items),), -torch.inf, dtype=torch.float64)
    for places, reading in live.readings(items):
        with live.differentiating():
            found[places] = _of_reading(reading, steps, most, farther, step)
    return found


def _of_reading(reading: Reading, steps: int, most: int, farther: float, step: _Step) -> Tensor:
    found = torch.full((len(reading),), -torch.inf, dtype=torch.float64)
    left, added = torch.arange(len(reading)), reading.unmoved()
    gaps: _Gaps | None = None
    for done in range(steps + 1):
        moved = (added * farther).requires_grad_()
        decisions = reading.decisions(moved)
        gaps = gaps or _gaps_of(decisions, most)
        values = gaps.of(decisions)
        closed = gaps.closed(values, decisions)
        found[left[closed]] = -reading.sums(added.square().sum((1, 2)))[closed]
        kept = torch.nonzero(~closed & gaps.near(values)[:, 0].isfinite()).flatten()
        if done == steps or len(kept) == 0:
            break
        added = added + step(reading, gaps, decisions, moved) * reading.real[:, :, None]
        if len(kept) < len(left):
            rows, _ = take_rows(reading.pieces, kept)
            left, added = left[kept], added[rows.to(added.device)]
            reading, gaps = reading.only(kept), gaps.only(kept)
    return found


def _mean_length(reading: Reading) -> Tensor:
    """The mean length of the embedded tokens of words of each example, float64[n]."""
    lengths = torch.linalg.vector_norm(reading.table(reading.batch["input_ids"]).detach(), dim=2) * reading.real
    counts: Tensor = reading.sums(reading.real.sum(1)).clamp(min=1)
    return reading.sums(lengths.sum(1)) / counts
