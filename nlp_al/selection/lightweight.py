"""Lightweight coresets: Bachem, Lucic & Krause 2018, arXiv 1702.08248."""

import torch
from torch import Tensor

from nlp_al.selection.rows import per_row, total_of_rows


def lightweight_probabilities(points: Tensor) -> Tensor:
    """Half uniform, half in proportion to the squared distance from the mean: float64[n] of float[n, d] points.

    Two passes over the points, O(n · d).
    """
    mean = total_of_rows(points) / max(len(points), 1)
    squared = per_row(points, lambda rows: (rows - mean).square_().sum(1))
    uniform = torch.full_like(squared, 1 / max(len(points), 1))
    total = float(squared.sum())
    return uniform / 2 + squared / (2 * total) if total > 0 else uniform


def exponential(count: int, generator: torch.Generator) -> Tensor:
    """Draws from the exponential distribution of mean 1: float64[count], on the CPU."""
    return torch.empty(count, dtype=torch.float64).exponential_(generator=generator)


def draw_in_proportion(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws `count` ≤ n positions without replacement, each in proportion to its float64[n] weight among those left.

    int64[count]. Exponential times whose rates are the weights come in that order, and one draw each serves any number.
    """
    times = exponential(len(weights), generator).to(weights.device)
    return torch.argsort(times / weights, stable=True)[:count]
