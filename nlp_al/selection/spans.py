"""Spans in sequences of columns, such as the entities of tagged sentences."""

import torch
from torch import Tensor

from nlp_al.decisions import owners, segment_max


def spans_of(
    columns: Tensor, offsets: Tensor, outside: int | None, transitions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The first row of each span, and the one behind its last: int64[S] both, in order, none across two examples.

    A column that may not begin an example goes on with the span before it where it may follow there, and else begins
    one; all others but `outside` begin one. Without transitions a column goes on with itself. Without outside there are
    no spans. columns: int64[M]; offsets: int64[n + 1]; transitions: float[O + 1, O], as signals have them.
    """
    if outside is None or len(columns) == 0:
        return columns[:0], columns[:0]
    inside = columns != outside
    before = columns.roll(1)
    if transitions is None:
        on = columns == before
    else:
        on = (transitions[-1, columns] == -torch.inf) & (transitions[before, columns] > -torch.inf)
    on &= inside
    on[offsets[:-1][offsets.diff() > 0]] = False
    starts = torch.nonzero(inside & ~on).flatten()
    breaks = torch.cat([torch.nonzero(~on).flatten(), columns.new_tensor([len(columns)])])
    return starts, breaks[torch.searchsorted(breaks, starts, right=True)]


def distance_to(marked: Tensor, offsets: Tensor) -> Tensor:
    """How many rows each row is away from the nearest marked one of its example, float64[M]; infinite without any.

    marked: bool[M]; offsets: int64[n + 1].
    """
    at = torch.arange(len(marked), device=marked.device)
    owner = owners(offsets)
    last = torch.where(marked, at, -1).cummax(0).values
    following = torch.where(marked, at, len(marked)).flip(0).cummin(0).values.flip(0)
    back = (at - last).double().masked_fill(last < offsets[:-1][owner], torch.inf)
    forth = (following - at).double().masked_fill(following >= offsets[1:][owner], torch.inf)
    return torch.minimum(back, forth)


def share_of_farthest(distances: Tensor, offsets: Tensor) -> Tensor:
    """Distances over the largest of each example, float64[M]; 1 where that is 0 or infinite."""
    farthest = segment_max(distances, offsets)[owners(offsets)]
    return torch.where((farthest > 0) & farthest.isfinite(), distances / farthest, 1.0)
