"""Things found in an example, such as entities: how sure their kind and their extent are."""

import torch
from torch import Tensor

from nlp_al.decisions import owners, segment_mean


def kinds_of(columns: int, transitions: Tensor | None = None) -> Tensor:
    """int64[O], which kind of span a column is of: one that may only go on is of the kind of what it goes on with.

    transitions: float[O + 1, O]; without them each column is of its own kind. Kinds count from 0. On the CPU.
    """
    kinds = torch.arange(columns)
    if transitions is not None:
        transitions = transitions.cpu()
        begins = transitions[-1] > -torch.inf
        for column in torch.nonzero(~begins).flatten().tolist():
            heads = torch.nonzero(begins & (transitions[:-1, column] > -torch.inf)).flatten()
            kinds[column] = heads[0] if len(heads) else column
    found: Tensor = kinds.unique(return_inverse=True)[1]
    return found


def kind_doubt(probs: Tensor, kinds: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """H(p) / ln C of each span, p being the geometric mean over its rows of their distributions over C kinds.

    probs: float[M, O]; kinds: int64[O]; starts, ends: int64[S]. float64[S].
    """
    count = int(kinds.max()) + 1
    merged = probs.new_zeros(len(probs), count, dtype=torch.float64)
    merged.index_add_(1, kinds.to(probs.device), probs.double())
    logs = merged.clamp(min=torch.finfo(torch.float64).tiny).log()
    rows, offsets = rows_of(starts, ends)
    shares = segment_mean(logs[rows], offsets).softmax(1)
    doubt: Tensor = torch.special.entr(shares).sum(1) / torch.tensor(max(count, 2)).double().log()
    return doubt


def rows_of(starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of spans, one span after the other, and the offsets that part them."""
    lengths = ends - starts
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    first = (starts - offsets[:-1])[owners(offsets)]
    return first + torch.arange(int(offsets[-1]), device=first.device), offsets


def best_overlap(starts: Tensor, ends: Tensor, others: tuple[Tensor, Tensor]) -> Tensor:
    """The highest intersection over union of each span with one of the others, 0 where none overlaps: float64[S].

    starts, ends: int64[S]. others: int64[R] both, in order and apart.
    """
    low = torch.searchsorted(others[1], starts, right=True)
    high = torch.searchsorted(others[0], ends)
    theirs, offsets = rows_of(low, torch.maximum(low, high))
    mine = owners(offsets)
    inside = torch.minimum(ends[mine], others[1][theirs]) - torch.maximum(starts[mine], others[0][theirs])
    whole = (ends - starts)[mine] + (others[1] - others[0])[theirs] - inside
    best = starts.new_zeros(len(starts), dtype=torch.float64)
    return best.scatter_reduce_(0, mine, inside.double() / whole, "amax")


def top_mean(values: Tensor, offsets: Tensor, count: int) -> Tensor:
    """The mean of the `count` largest values of each segment, or of all where these are fewer: float64[n]."""
    owner = owners(offsets)
    by_value = torch.argsort(values, descending=True, stable=True)
    order = by_value[torch.argsort(owner[by_value], stable=True)]
    kept = torch.arange(len(values), device=values.device) - offsets[owner] < count
    sums = values.new_zeros(offsets.numel() - 1).index_add_(0, owner[kept], values[order[kept]])
    return sums / offsets.diff().clamp(min=1, max=count)


def spread_out(worth: Tensor, points: Tensor, recent: Tensor, count: int, power: float) -> Tensor:
    """Greedily, the most of worth · (1 − the highest cosine to a pick or a recent point) ** power: int64[count].

    Negative cosines count as 0. Where all products are 0 the worthiest comes next; of equal ones the lowest position.
    worth: float[n], not negative. points: float[n, d]. recent: float[l, d]. Time O(n · d · count), memory O(n).
    """
    from nlp_al.selection.density import cosines_with, directions
    from nlp_al.selection.rows import per_row

    near = points.new_zeros(len(points), dtype=torch.float64)
    if len(recent):
        seen = directions(recent)
        near = per_row(points, lambda rows: (directions(rows) @ seen.T).amax(1)).clamp_(min=0)
    left = worth.double().clone()
    picks = torch.zeros(count, dtype=torch.int64)
    for step in range(count):
        # Rounded: the last digits differ between equal examples, which must tie, and a copy is at 1 but for these.
        apart = (1 - near).mul(2.0**30).round().div(2.0**30).clamp(min=0)
        value = (left * apart**power).float()
        pick = int((value if float(value.max()) > 0 else left).argmax())
        picks[step] = pick
        near = torch.maximum(near, cosines_with(points, directions(points[[pick]])[0]))
        left[pick] = -1.0
    return picks
