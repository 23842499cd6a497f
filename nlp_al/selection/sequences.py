"""Sequences of decisions: the log-weights of the best few, and the entropy of all, without listing them.

Decisions are independent, or a linear chain: a sequence weighs Σ_i log p_i(y_i) + transitions[y_{i-1}, y_i], with the
last row of the transitions for its first decision. All is computed in float64. A column of minus infinity is no option.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from nlp_al.decisions import owners, segment_sum

_EXAMPLES_AT_ONCE = 4096
_FLOATS_AT_ONCE = 2**20  # 8 MB, about what a cache holds


def best_independent(log_probs: Tensor, offsets: Tensor, count: int) -> Tensor:
    """Log-probabilities of the `count` ≥ 1 most probable sequences of independent decisions, the highest first.

    log_probs: float[M, O], a row a decision; offsets: int64[n + 1]. float64[n, count], minus infinity where there are
    fewer sequences; without decisions there is one, the empty one. Time O(M · O log(M · O) + n · count³).
    """
    # A sequence is the best one with some decisions changed. What one change costs is a lower bound of all sequences
    # with it, so that none but the `count` - 1 cheapest changes can be in the best `count` sequences.
    ordered = log_probs.double().topk(min(count, log_probs.shape[1]), dim=1).values
    best = segment_sum(ordered[:, 0], offsets)
    parts = [best.new_zeros(0, count)]
    for low in range(0, len(best), _EXAMPLES_AT_ONCE):
        bounds = offsets[low : low + _EXAMPLES_AT_ONCE + 1]
        rows = ordered[int(bounds[0]) : int(bounds[-1])]
        losses, changed = _cheapest(rows[:, :1] - rows[:, 1:], bounds - bounds[0], count - 1)
        parts.append(best[low : low + _EXAMPLES_AT_ONCE, None] - _cheapest_sums(losses, changed, count))
    return torch.cat(parts)


def _cheapest(losses: Tensor, offsets: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest of each segment of float[M, W], ascending, and their rows: float, int64[n, count].

    Infinity and row -1 stand where there are fewer.
    """
    width = losses.shape[1]
    owner = owners(offsets).repeat_interleave(width)
    by_loss = torch.argsort(losses.flatten(), stable=True)
    order = by_loss[torch.argsort(owner[by_loss], stable=True)]
    # The owners stand as before: they were in order.
    rank = torch.arange(len(order), device=order.device) - offsets[owner] * width
    order, owner, rank = order[rank < count], owner[rank < count], rank[rank < count]
    found = losses.new_full((offsets.numel() - 1, count), torch.inf)
    rows = torch.full_like(found, -1, dtype=torch.int64)
    found[owner, rank] = losses.flatten()[order]
    rows[owner, rank] = order.div(max(width, 1), rounding_mode="floor")
    return found, rows


def _cheapest_sums(losses: Tensor, rows: Tensor, count: int) -> Tensor:
    """The `count` smallest sums over sets of float[n, T] losses with no two of one row, ascending: float[n, count].

    It is enough to hold the best `count` sets while losses are added: one that is not among them has as many below it,
    and still has them with a further loss. rows: int64[n, T].
    """
    n, terms = losses.shape
    sums = losses.new_full((n, count), torch.inf)
    sums[:, 0] = 0.0
    inside = losses.new_zeros(n, count, terms, dtype=torch.bool)
    for term in range(terms):
        same_row = rows == rows[:, term, None]
        clash = (inside & same_row[:, None]).any(2)
        larger = (sums + losses[:, term, None]).masked_fill_(clash, torch.inf)
        sums, kept = torch.cat([sums, larger], 1).topk(count, largest=False)
        inside = inside.gather(1, (kept % count)[:, :, None].expand(-1, -1, terms))
        inside[:, :, term] = kept >= count
    return sums


def best_of_chain(log_probs: Tensor, offsets: Tensor, transitions: Tensor, count: int) -> Tensor:
    """Log-weights of the `count` ≥ 1 heaviest sequences of a linear chain (N-best Viterbi), the highest first.

    log_probs: float[M, O]; offsets: int64[n + 1]; transitions: float[O + 1, O]. float64[n, count], minus infinity where
    there are fewer sequences. They are not normalised: subtract what `chain_totals` says. Time O(M · O² · count).
    """
    emitted, moves = log_probs.double(), transitions.double()
    columns = emitted.shape[1]
    out = emitted.new_full((offsets.numel() - 1, count), -torch.inf)
    out[:, 0] = 0.0  # of the empty sequence, where there are no decisions
    for members, steps in _by_length(offsets, columns * columns * count):
        ending = emitted.new_full((len(members), columns, count), -torch.inf)  # the best that end in each column
        ending[:, :, 0] = emitted[steps[0]] + moves[-1]
        for rows in steps[1:]:
            longer = ending[: len(rows), None] + moves[:-1].T[:, :, None]  # example, to, from, rank
            ending[: len(rows)] = longer.flatten(2).topk(count).values + emitted[rows][:, :, None]
        out[members] = ending.flatten(1).topk(count).values
    return out


def chain_totals(log_probs: Tensor, offsets: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """The log-partition of a linear chain and the entropy over its sequences, in nats: float64[n] both.

    Arguments as in `best_of_chain`; some sequence must have a weight. One forward pass, which carries the entropy of
    what led to each column along (Hernando, Crespi & Cybenko 2005), so that nothing cancels. Time O(M · O²).
    """
    emitted, moves = log_probs.double(), transitions.double()
    columns = emitted.shape[1]
    partition = emitted.new_zeros(offsets.numel() - 1)
    entropy = torch.zeros_like(partition)
    for members, steps in _by_length(offsets, columns * columns):
        weight = emitted[steps[0]] + moves[-1]
        before = torch.zeros_like(weight)  # the entropy over the ways to a column
        for rows in steps[1:]:
            reached, led = _chained(weight[: len(rows), :, None] + moves[:-1], before[: len(rows), :, None])
            weight[: len(rows)] = reached + emitted[rows]
            before[: len(rows)] = led
        partition[members], entropy[members] = _chained(weight, before)
    return partition, entropy


def _chained(weights: Tensor, entropies: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp over dimension 1, and the entropy of choosing along it and of what was chosen."""
    total = weights.logsumexp(1)
    share = (weights - total.unsqueeze(1)).exp().nan_to_num(0.0)  # a column that nothing leads to has none
    return total, (share * entropies + torch.special.entr(share)).sum(1)


def _by_length(offsets: Tensor, floats: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Groups of examples of similar length, the longest first: positions, and the rows of their decisions by step.

    The rows of a step are those of the first members, as many as are that long: nothing is padded. Examples without
    decisions are left out. floats: how many one example takes, which decides how many come together.
    """
    lengths = offsets.diff()
    order = torch.argsort(lengths, descending=True, stable=True)
    filled = order[: int((lengths > 0).sum())]
    if len(filled) == 0:
        return
    for members in filled.split(max(1, _FLOATS_AT_ONCE // floats)):
        own, first = lengths[members], offsets[members]
        yield members, [first[own > step] + step for step in range(int(own[0]))]
