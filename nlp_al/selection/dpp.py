"""Determinantal point processes with the kernel L_ij = q_i q_j ⟨φ_i, φ_j⟩: Kulesza & Taskar 2012, arXiv 1207.6083.

The kernel is never written down. Of the incremental Cholesky factor (Chen, Zhang & Zhou 2018, arXiv 1709.05135) not the
rows over the pool are kept but the directions in feature space that they are products with: e_j(i) = q_i ⟨φ_i, v_j⟩.
"""

import torch
from torch import Tensor

from nlp_al.selection.rows import per_row

MOST_SAMPLED = 2_000
"""Rows that a draw should work on: its time grows with their number times the square of the set's."""

_RANK = 1e-10  # what a vector keeps of its squared length outside the picks, to count as independent of them
_SAME = 2.0**-30  # in log-determinants: equal examples differ only in what lies below


def log_sizes(vectors: Tensor) -> Tensor:
    """ln ‖φ‖² of float[n, d] rows, float64[n]."""
    return per_row(vectors, lambda rows: rows.square().sum(1)).log()


def greedy_dpp(vectors: Tensor, log_quality: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Picks the examples, one at a time, that make det L of the picks largest; ties go to the lowest position.

    vectors: float[n, d], φ. log_quality: float64[n], ln q, minus infinity for what is never picked. Ends early once all
    others lie in the span of the picks. (int64[k], float64[k]): k ≤ min(count, rank), and by how much each pick
    multiplies the determinant, as logarithms. Time O(n · k · d), memory O(n + k · d) beyond the input.
    """
    sizes = log_sizes(vectors).exp()
    outside = sizes.clone()
    most = min(count, *vectors.shape)
    basis = vectors.new_zeros(most, vectors.shape[1], dtype=torch.float64)
    picks, gains = torch.zeros(most, dtype=torch.int64), torch.zeros(most, dtype=torch.float64)
    for step in range(most):
        grown = outside.log() + 2 * log_quality
        best = grown.max()
        if best == -torch.inf:
            return picks[:step], gains[:step]
        pick = int((grown >= best - _SAME).int().argmax())
        direction = _orthogonal(vectors[pick].double(), basis[:step])
        picks[step], gains[step] = pick, direction.square().sum().log() + 2 * log_quality[pick]
        basis[step] = direction / torch.linalg.vector_norm(direction)
        outside -= _squares_along(vectors, basis[step])
        outside.masked_fill_(outside <= _RANK * sizes, 0.0)
        outside[pick] = 0.0
    return picks, gains


def sample_dpp(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws a set with probability in proportion to det L, among those with `count` members, L = V Vᵀ of float[m, d] V.

    With fewer independent rows than that, as many as there are. Works on the d × d dual of L. int64[k], in the order
    drawn. Time O(m · d² + d³ + m · k²).
    """
    rows = vectors.double()
    values, axes = torch.linalg.eigh(rows.T @ rows)
    kept = values > _RANK * values.max() if len(values) else values > 0
    values, axes = values[kept], axes[:, kept]
    axes = axes[:, _eigenvectors(values, min(count, len(values)), generator)]
    rows = rows @ axes
    rows = rows / torch.linalg.vector_norm(rows, dim=0)
    k = rows.shape[1]
    outside = rows.square().sum(1)
    basis, picks = rows.new_zeros(k, k), torch.zeros(k, dtype=torch.int64)
    for step in range(k):
        picks[step] = pick = int(torch.multinomial(outside, 1, generator=generator))
        direction = _orthogonal(rows[pick], basis[:step])
        basis[step] = direction / torch.linalg.vector_norm(direction)
        outside = (outside - (rows @ basis[step]).square()).clamp_(min=0.0)
        outside[picks[: step + 1]] = 0.0
    return picks


def _squares_along(vectors: Tensor, direction: Tensor) -> Tensor:
    """⟨φ, direction⟩² of float[n, d] rows, float64[n]."""
    return per_row(vectors, lambda rows: (rows @ direction).square_())


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """What of a vector no row of an orthonormal basis holds; done twice, since once leaves rounding of the whole."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector


def _eigenvectors(values: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """Draws `count` positions, each set in proportion to the product of its values: float64[N], all positive."""
    logs = values.log()
    # sums[:, j]: logarithms of the elementary symmetric polynomials, of order 0 to count, of the first j values.
    sums = torch.full((count + 1, len(logs) + 1), -torch.inf, dtype=torch.float64)
    sums[0] = 0.0
    for at, value in enumerate(logs):
        sums[1:, at + 1] = torch.logaddexp(sums[1:, at], value + sums[:-1, at])
    drawn = torch.rand(len(logs), generator=generator, dtype=torch.float64)
    chosen: list[int] = []
    for at in range(len(logs) - 1, -1, -1):
        left = count - len(chosen)
        if left and drawn[at].log() < logs[at] + sums[left - 1, at] - sums[left, at + 1]:
            chosen.append(at)
    return chosen
