"""Small networks that read features: linear layers with ReLU between them, lists of weights and biases, one output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import linear, relu

from nlp_al.selection.rows import total_of_rows


def fresh(widths: Sequence[int], generator: torch.Generator, device: torch.device | str = "cpu") -> list[Tensor]:
    """Layers between these widths, drawn as torch begins with, but of this generator, and then moved to the device."""
    net: list[Tensor] = []
    for inside, outside in pairwise(widths):
        for shape in ((outside, inside), (outside,)):
            drawn = torch.rand(shape, generator=generator) * 2 - 1
            net.append((drawn * max(inside, 1) ** -0.5).to(device).requires_grad_())
    return net


def output(net: Sequence[Tensor], rows: Tensor) -> Tensor:
    """What it makes of float[m, d] rows, float[m]."""
    *inner, weight, bias = net
    for at in range(0, len(inner), 2):
        rows = relu(linear(rows, inner[at], inner[at + 1]))
    return linear(rows, weight, bias)[:, 0]


def frame(points: Tensor, square: float) -> Callable[[Tensor], Tensor]:
    """Takes the mean of the points off and scales, so that their mean squared length is `square`."""
    mean = total_of_rows(points) / max(len(points), 1)
    squares = float(total_of_rows(points, lambda rows: (rows - mean).square_()).sum())
    scale = (squares / max(len(points) * square, 1)) ** 0.5 or 1.0
    return lambda rows: ((rows.double() - mean) / scale).float()
