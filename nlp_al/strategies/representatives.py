"""Methods that compare all examples with all others, in pools too large for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nlp_al.strategies.base import Selection

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals

DIRECT = 50_000
"""Up to so many examples are all compared with each other."""
SAMPLE = 20_000
"""So many stand for a larger pool."""


def representatives(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """(int64[SAMPLE], sorted, int64[n − SAMPLE]): some positions at random, and the others in random order.

    None, and nothing drawn, where a pool of n is small enough to be taken whole.
    """
    import torch

    if n <= DIRECT:
        return None
    order = torch.randperm(n, generator=generator)
    return order[:SAMPLE].sort().values, order[SAMPLE:]


def by_representatives(
    signals: Signals, count: int, generator: torch.Generator, choose: Callable[[Signals, int], Selection]
) -> Selection:
    """What `choose` picks of the pool, or of the random sample that stands for a larger one, and then of the rest."""
    import torch

    drawn = representatives(len(signals), generator)
    if drawn is None:
        return choose(signals, count)
    some, others = drawn
    inside = choose(signals.take(some), min(count, SAMPLE))
    note = f"{SAMPLE:,} of the {len(signals):,} examples, drawn at random, stood for all of them"
    told = "; ".join(filter(None, (note, inside.note)))
    return Selection(torch.cat([some[inside.indices.cpu()], others])[:count], note=told)
