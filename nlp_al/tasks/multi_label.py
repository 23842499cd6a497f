"""Multi-label text classification: a decision a label, yes or no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.errors import UserError
from nlp_al.tasks.base import Piece, Rows, Said, label_name, listed
from nlp_al.tasks.forms import NOTHING, Form
from nlp_al.tasks.text_classification import TextClassification
from nlp_al.values import shown

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.decisions import Decisions
    from nlp_al.heads import Head
    from nlp_al.pool import Example
    from nlp_al.signals import Gradients


class MultiLabelClassification(TextClassification):
    """Any number of C labels for each text; the options of a decision are yes (first) and no."""

    shape: ClassVar[str] = "multi"
    alike: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("f1_macro", "f1_micro", "accuracy")
    _how: ClassVar[str] = "top_k=None, "  # every label, with its own probability

    def read_label(self, value: Any, label_names: Sequence[str] | None) -> Any:
        """A list of names, empty where no label applies; None where the text is unlabelled."""
        if value is None or value == "":
            return None
        if isinstance(value, str) and self.options.separator is not None:
            value = [part.strip() for part in value.split(self.options.separator) if part.strip()]
        if not isinstance(value, list):
            raise UserError(
                f"{shown(value)} is no list of labels; write a list, or name a task_options.separator for texts"
            )
        names = [label_name(one, label_names) for one in value]
        if None in names:
            raise UserError("a label in the list is empty")
        if len(set(names)) < len(names):
            raise UserError(f"the list {shown(value)} names a label twice")
        return names

    def names_in(self, label: Any) -> Sequence[str]:
        """The labels that apply."""
        return list(label)

    def renamed(self, label: Any, names: Mapping[str, str]) -> list[str]:
        """Each name once, also where two have become one."""
        return list(dict.fromkeys(names.get(name, name) for name in label))

    def feature(self, example: Example) -> Any:
        """A list of them."""
        import datasets

        return datasets.List(super().feature(example))

    def confidence(self, decisions: Decisions, predicted: Sequence[Any]) -> list[list[float]]:
        """Of each label that is predicted."""
        yes = decisions.probs[:, 0].reshape(-1, len(self.labels)).tolist()
        return [[own[self.index[name]] for name in names] for own, names in zip(yes, predicted, strict=True)]

    def form(self, examples: Sequence[Example]) -> Form:
        """Any number of labels, or the option that says that none applies."""
        form = super().form(examples)
        return replace(form, kind="labels", options={**form.options, NOTHING: "none of these"})

    def from_form(self, value: Any, example: Example) -> list[str]:
        """The labels, in their own order; that none applies says nothing beside one that does."""
        return sorted((name for name in value if name != NOTHING), key=lambda name: self.index.get(name, 0))

    def readable(self, label: Any, example: Example) -> bool:
        """A list of different labels."""
        whole = isinstance(label, list) and all(isinstance(name, str) and name in self.index for name in label)
        return whole and len(set(label)) == len(label)

    def parts(self, label: Any) -> list[Any]:
        """Whether it applies, for each label."""
        return [name in label for name in self.labels]

    def whole(self, parts: Sequence[Any]) -> list[str]:
        """The labels that apply, in the order of the task's."""
        return [name for name, applies in zip(self.labels, parts, strict=True) if applies]

    def expects(self, example: Example) -> str:
        """A list."""
        return f"it must be a list out of {listed(self.labels)}"

    def mistaken(self, label: Any, example: Example, said: Said) -> Any:
        """Yes or no is said of each label."""
        return [name for name in self.labels if said(name in label, (True, False))]

    def only_label(self, labels: Sequence[Any]) -> Any:
        """The labels that all texts have, while all have the same."""
        found = {tuple(sorted(label)) for label in labels}
        return list(next(iter(found))) if len(found) == 1 else None

    def constant(self, name: Any, example: Example) -> list[str]:
        """The same labels again."""
        return list(name)

    def targets(self, pieces: Sequence[Piece], label: Any) -> list[Any]:
        """1 for each label that applies, 0 for the others."""
        return [tuple(float(name in label) for name in self.labels)]

    def head_config(self) -> dict[str, Any]:
        """A logit a label, trained with binary cross-entropy."""
        return {**super().head_config(), "problem_type": "multi_label_classification"}

    def fit_head(self, rows: Rows, labels: Sequence[Any]) -> Head:
        """A logistic regression a label."""
        import torch

        from nlp_al.heads import yes_no_heads

        return yes_no_heads(rows.hidden, torch.tensor([[name in label for name in self.labels] for label in labels]))

    def decisions(self, rows: Rows) -> Decisions:
        """(yes, no) for each label of each text."""
        import torch

        from nlp_al.decisions import Decisions

        assert rows.logits is not None
        logits = rows.logits.float().flatten()
        probs = torch.stack([logits.sigmoid(), (-logits).sigmoid()], dim=1)
        return Decisions(probs, torch.arange(len(rows.logits) + 1) * len(self.labels))

    def gradients(self, rows: Rows, decisions: Decisions) -> Gradients:
        """(p − 1[p > 0.5]) ⊗ h, a row a text."""
        from nlp_al.signals import Gradients

        yes = decisions.probs[:, 0].reshape(-1, len(self.labels))
        return Gradients(yes - (yes > 0.5).to(yes.dtype), rows.hidden.float(), rows.offsets)

    def predict(self, decisions: Decisions) -> list[Any]:
        """The labels with a probability above one half."""
        applies = (decisions.probs[:, 0] > 0.5).reshape(-1, len(self.labels)).tolist()
        return [[name for name, yes in zip(self.labels, row, strict=True) if yes] for row in applies]

    def choices(self, decisions: Decisions) -> Tensor:
        """0, yes, with a probability above one half."""
        return (decisions.probs[:, 0] <= 0.5).long()

    def columns_of(self, label: Any, example: Example) -> list[int]:
        """0 for each label that applies, 1 for the others."""
        return [int(name not in label) for name in self.labels]

    def label_of(self, columns: Sequence[int], example: Example) -> list[str]:
        """The labels whose column is 0."""
        return [name for name, column in zip(self.labels, columns, strict=True) if column == 0]

    def subjects(self, example: Example) -> list[str]:
        """The labels."""
        return list(self.labels)

    def score(self, predicted: Sequence[Any], gold: Sequence[Any]) -> dict[str, float]:
        """F1 averaged over the labels that occur, F1 of all yes and no together, and the share of texts all right."""
        from nlp_al.metrics import MultiLabelScores

        scores: dict[str, float] = MultiLabelScores().compute(
            predictions=[self._vector(p) for p in predicted], references=[self._vector(g) for g in gold]
        )
        return scores

    def _vector(self, label: Any) -> list[int]:
        return [int(name in label) for name in self.labels]
