"""Draws of the last layer's weights, as far as labels leave them open: Laplace's approximation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from nlp_al.errors import UserError
from nlp_al.samplers.base import Fitted, Sampler
from nlp_al.values import about

if TYPE_CHECKING:
    from nlp_al.heads import Head
    from nlp_al.signals.collector import Committee
    from nlp_al.tasks import Task


@dataclass(frozen=True)
class LaplaceSampler(Sampler):
    """The fitted model, its last layer moved by draws from a Gaussian: wide where labels say little, narrow elsewhere.

    Use when: a committee must cost one pass over the pool, and what lies far from all labels should count.
    Needs: nothing more. Cost: l · d² + d³ once, and one pass over the pool.
    Reference: MacKay 1992; Kristiadi, Hein & Hennig 2020, arXiv 2002.10118.
    """

    passes: int = about("how many layers are drawn", 50)
    form: Literal["shared", "exact"] = about(
        "shared: one matrix for all classes; exact: the whole curvature, with at most 4096 weights", "shared"
    )
    prior: float | None = about("precision of a weight before any label; null: the penalty of frozen heads")

    reference: ClassVar[str] = "MacKay 1992; Kristiadi, Hein & Hennig 2020, arXiv 2002.10118"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior is not None and self.prior <= 0:
            raise ValueError(f"prior is {self.prior:g}; it must be more than 0, or null.")

    def check_model(self, task: Task, source: str) -> None:
        """UserError where the exact form would have too many weights."""
        from nlp_al.laplace import LARGEST

        if self.form == "shared" or task.shape not in ("single", "sequence"):
            return
        width = _width(source)
        if width * len(task.labels) > LARGEST:
            raise UserError(
                f"sampler.form is exact, but {len(task.labels)} labels on {width} features are more than {LARGEST} "
                "weights; take shared."
            )

    def committees(self, fitted: Fitted) -> Iterator[Committee]:
        """All draws at once."""
        import torch

        from nlp_al.heads import Head
        from nlp_al.laplace import posterior
        from nlp_al.samplers.heads import HeadCommittee
        from nlp_al.signals.rows import read_rows

        task = fitted.model.task
        rows = read_rows(fitted.model, [example for example, _ in fitted.labelled])
        heads: list[Head] = []
        if rows is not None:
            decisions = task.decisions(rows)
            factors = task.gradients(rows, decisions)
            found = posterior(decisions, factors, self.form == "exact", self.prior, task.slack)
            draws = found.draws(self.passes, torch.Generator().manual_seed(fitted.seed("laplace")))
            heads = [Head(draw, torch.zeros(len(draw), dtype=torch.float64)) for draw in draws]
        yield HeadCommittee.of(fitted.model, heads, added=True)


def _width(source: str) -> int:
    """Features that the last layer reads."""
    import transformers

    from nlp_al.signals.loading import LOAD_ERRORS, told
    from nlp_al.source import package_path

    try:
        return int(transformers.AutoConfig.from_pretrained(package_path(source)).hidden_size)
    except LOAD_ERRORS as error:
        raise told(source, error) from error
