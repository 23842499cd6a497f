"""The highest scores."""

import torch
from torch import Tensor


def top(scores: Tensor, count: int) -> Tensor:
    """Positions of the `count` highest of float[n] scores, highest first; ties go to the lowest. O(n log n)."""
    return torch.argsort(scores, descending=True, stable=True)[:count]
