"""The best sequence of tags under rules for which may follow which."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 4096


def best_paths(probs: Tensor, offsets: Tensor, transitions: Tensor) -> Tensor:
    """int64[M]: for each decision the option that it has in its example's most probable sequence (Viterbi 1967).

    probs: float[M, O]; offsets: int64[n + 1]; transitions: float[O + 1, O], log-weights of going from one option to the
    next, the last row from the start. Ties go to the first option. Time O(M · O²).
    """
    import torch

    # A probability of 0 is one that was rounded, or a tag not seen yet: only the rules forbid.
    emitted = probs.double().clamp(min=torch.finfo(torch.float64).tiny).log()
    moves, lengths = transitions.double(), offsets.diff()
    out = torch.empty(len(probs), dtype=torch.int64)
    order = torch.argsort(lengths, descending=True, stable=True)
    for members in order[: int((lengths > 0).sum())].split(_AT_ONCE):
        own, first = lengths[members], offsets[members]
        steps = [first[own > step] + step for step in range(int(own[0]))]
        weight = emitted[steps[0]] + moves[-1]
        came_from = []
        for rows in steps[1:]:
            best, before = (weight[: len(rows), :, None] + moves[:-1]).max(1)
            weight[: len(rows)] = best + emitted[rows]
            came_from.append(before)
        chosen = weight.argmax(1)
        for rows, before in zip(steps[:0:-1], came_from[::-1], strict=True):
            out[rows] = chosen[: len(rows)]
            chosen[: len(rows)] = before.gather(1, chosen[: len(rows), None])[:, 0]
        out[steps[0]] = chosen
    return out
