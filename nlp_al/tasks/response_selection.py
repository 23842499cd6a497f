"""Dialogue response selection: one decision an example, over the candidates of its context."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nlp_al.errors import UserError
from nlp_al.tasks.base import RowError, Rows, Said, Task
from nlp_al.tasks.forms import CHAT, TEXT, Form
from nlp_al.values import about, shown

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.decisions import Decisions
    from nlp_al.pool import Example
    from nlp_al.signals import Gradients

NONE = "none"
"""The label that says: no candidate fits."""


@dataclass(frozen=True)
class ResponseOptions:
    """`task_options` of response selection."""

    form: Literal["bi-encoder", "cross-encoder"] = about(
        "bi-encoder: context and candidates are embedded apart, each distinct candidate once; cross-encoder: the model "
        "reads each candidate together with its context, slower",
        "bi-encoder",
    )
    max_length: int = about("tokens that the model reads at once; the oldest turns of a context are cut first", 128)
    max_response_length: int = about("tokens of a candidate that the model reads", 64)
    none_of_these: str | None = about(
        "text of one more option that is right where no candidate is; its label is none; left out: there is none"
    )
    bank: str | None = about("file with a response a line, from which contexts without candidates draw theirs")
    bank_retriever: Literal["bm25", "embeddings"] = about("bm25 or embeddings: how responses are drawn", "bm25")
    bank_candidates: int = about("how many candidates a context draws", 10)

    def __post_init__(self) -> None:
        for name, least in (("max_length", 8), ("max_response_length", 3), ("bank_candidates", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if self.none_of_these is not None and not self.none_of_these.strip():
            raise ValueError("none_of_these is empty; it must be a text, or null for no such option.")


class ResponseSelection(Task):
    """The right one of K candidates, K varying from context to context; what both forms share."""

    name: ClassVar[str] = "response-selection"
    named: ClassVar[bool] = False
    read_by: ClassVar[tuple[str, ...]] = ("form", "max_length", "max_response_length", "none_of_these")
    cut_at: ClassVar[str] = "left"
    shape: ClassVar[str] = "ranking"
    category: ClassVar[str] = "multiple-choice"
    columns: ClassVar[dict[str, str]] = {
        "context": "list of turns, oldest first: texts, or {speaker, text}",
        "candidates": "list of responses; with task_options.bank it may be missing",
        "label": "position of the right candidate, counted from 0, or its text",
    }
    metrics: ClassVar[tuple[str, ...]] = ("recall_at_1", "recall_at_2", "recall_at_5", "mrr")
    Options: ClassVar[type] = ResponseOptions

    @classmethod
    def of(cls, options: ResponseOptions) -> Task:
        """The form that the options name."""
        from nlp_al.tasks.bi_encoder import BiEncoder
        from nlp_al.tasks.cross_encoder import CrossEncoder

        return (BiEncoder if options.form == "bi-encoder" else CrossEncoder)(options)

    # Rows of a data set

    def optional(self) -> frozenset[str]:
        """With a bank, the candidates."""
        return frozenset({"candidates"} if self.options.bank else ())

    def read(self, row: Mapping[str, Any], label_names: Sequence[str] | None) -> tuple[Any, int, Any]:
        """{context, candidates}, the number of words in both, the label: a position, or `none`."""
        context, candidates = self._context(row["context"]), self._candidates(row.get("candidates"))
        label = self._label(row.get("label"), candidates)
        words = sum(len(text.split()) for text in (*context, *candidates))
        return {"context": context, "candidates": candidates}, words, label

    def _context(self, value: Any) -> list[str]:
        turns = value if isinstance(value, list) else [value]
        texts = []
        for turn in turns:
            speaker = turn.get("speaker") if isinstance(turn, dict) else None
            text = turn.get("text") if isinstance(turn, dict) else turn
            if not isinstance(text, str) or not isinstance(speaker, (str, type(None))):
                raise RowError("context", f"{shown(turn)} is no turn: it must be a text, or {{speaker, text}}")
            if text.strip():
                texts.append(f"{speaker}: {text}" if speaker else text)
        if not texts:
            raise RowError("context", "the context is empty")
        return texts

    def _candidates(self, value: Any) -> list[str]:
        if not value and self.options.bank:
            return []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise RowError("candidates", f"{shown(value)} is no list of responses")
        if not value:
            raise RowError("candidates", "there are no candidates; give some, or name a task_options.bank")
        for at, one in enumerate(value):
            if not one.strip():
                raise RowError("candidates", f"candidate {at} is empty")
            if one in value[:at]:
                raise RowError("candidates", f"candidate {at} repeats candidate {value.index(one)}, {shown(one)}")
        return value

    def _label(self, value: Any, candidates: Sequence[str]) -> Any:
        """A position, `none`, or, until candidates are drawn, the text of the right response."""
        if value is None or value == "":
            return None
        if value == NONE and self.options.none_of_these is not None:
            return NONE
        if isinstance(value, str) and (not candidates or value in candidates):
            return candidates.index(value) if candidates else value
        whole = int(value) if _is_whole(value) else value
        if isinstance(whole, bool) or not isinstance(whole, int):
            also = f", or {NONE!r}" if self.options.none_of_these is not None else ""
            raise UserError(f"the label {shown(value)} is neither the position nor the text of a candidate{also}")
        if not 0 <= whole < len(candidates):
            raise UserError(f"the label {whole} is no candidate: there are {len(candidates)}, counted from 0")
        return whole

    def complete(self, splits: dict[str, list[Example]], source: str) -> dict[str, list[Example]]:
        """Gives contexts without candidates some out of the bank."""
        if self.options.bank is None:
            return splits
        from nlp_al.tasks.response_bank import drawn

        return drawn(self.options, splits, source)

    def mistaken(self, label: Any, example: Example, said: Said) -> Any:
        """Another candidate, or `none` where that is an option."""
        return said(label, self.answers(example))

    def names_in(self, label: Any) -> Sequence[str]:
        """A position has no name."""
        return []

    def only_label(self, labels: Sequence[Any]) -> Any:
        """There is something to learn from every label."""
        return None

    def readable(self, label: Any, example: Example) -> bool:
        """A position among the candidates, or `none` where that is an option."""
        if label == NONE:
            return self.options.none_of_these is not None
        return type(label) is int and 0 <= label < len(example.inputs["candidates"])

    def expects(self, example: Example) -> str:
        """A position, or `none`."""
        also = "" if self.options.none_of_these is None else f", or {NONE!r}"
        return f"it must be a position from 0 to {len(example.inputs['candidates']) - 1}{also}"

    def form(self, examples: Sequence[Example]) -> Form:
        """The number of a candidate, as people count."""
        most = max(len(example.inputs["candidates"]) for example in examples)
        none = {} if self.options.none_of_these is None else {NONE: self.options.none_of_these}
        options = {str(at + 1): str(at + 1) for at in range(most)}
        return Form({"context": CHAT, "candidates": TEXT}, "label", {**options, **none})

    def shown(self, inputs: Any) -> dict[str, Any]:
        """The turns, the last one by whoever is to be answered, and the candidates with their numbers."""
        turns = inputs["context"]
        sides = ["user" if (len(turns) - at) % 2 else "assistant" for at in range(len(turns))]
        chat = [{"role": side, "content": turn} for side, turn in zip(sides, turns, strict=True)]
        numbered = "\n".join(f"{at}. {text}" for at, text in enumerate(inputs["candidates"], 1))
        return {"context": chat, "candidates": numbered}

    def to_form(self, label: Any, example: Example) -> str:
        """The candidate's number."""
        return NONE if label == NONE else str(label + 1)

    def from_form(self, value: Any, example: Example) -> Any:
        """The candidate's position."""
        return NONE if value == NONE else int(value) - 1

    def column(self, label: Any, example: Example) -> Any:
        """The position. Where `none` is an option all is text, and a position that a candidate reads like is that
        candidate's text.
        """
        if self.options.none_of_these is None:
            return label
        candidates = example.inputs["candidates"]
        return candidates[label] if label != NONE and str(label) in candidates else str(label)

    def feature(self, example: Example) -> Any:
        """A number, or text."""
        import datasets

        return datasets.Value("int64" if self.options.none_of_these is None else "string")

    def passage(self, inputs: Any, tokenizer: Any) -> str:
        """The context."""
        return joined(inputs["context"], tokenizer)

    def answers(self, example: Example) -> list[Any]:
        """Every position, and `none` where that is an option."""
        none = [] if self.options.none_of_these is None else [NONE]
        return [*range(len(example.inputs["candidates"])), *none]

    def askable(self, example: Example) -> bool:
        """One option is no choice."""
        return len(self.options_of(example.inputs)) > 1

    def options_of(self, inputs: Any) -> list[str]:
        """The candidates, and behind them the text that stands for none of them."""
        none = self.options.none_of_these
        return [*inputs["candidates"], *([] if none is None else [none])]

    def position(self, label: Any, options: int) -> int:
        """A label as a position among the options."""
        return options - 1 if label == NONE else int(label)

    def example_of_use(self) -> str:
        """A context as the model reads it, and candidates, as Python."""
        none = self.options.none_of_these
        options = ["On Friday.", "It is raining.", *([] if none is None else [none])]
        return f"""\
between = f" {{tokenizer.sep_token}} " if tokenizer.sep_token else "\\n"
context = between.join(["Hello!", "When is the next match?"])
candidates = {json.dumps(options, ensure_ascii=False)}"""

    # Signals

    def decisions(self, rows: Rows) -> Decisions:
        """A softmax over the options of each context, padded to the most that there are."""
        import torch

        from nlp_al.decisions import Decisions, owners

        assert rows.logits is not None
        counts = rows.offsets.diff()
        place = torch.arange(len(rows.logits)) - rows.offsets[:-1].repeat_interleave(counts)
        logits = rows.logits.new_full((len(counts), max(1, int(counts.max()))), -torch.inf)
        logits[owners(rows.offsets), place] = rows.logits[:, 0]
        return Decisions(logits.float().softmax(1), torch.arange(len(counts) + 1), counts)

    def option_weights(self, rows: Rows) -> Tensor:
        """float[J, 1]: how probable each option is; before there is a model all of a context are alike."""
        import torch

        counts = rows.offsets.diff()
        if rows.logits is None:
            return (1.0 / counts.repeat_interleave(counts).float())[:, None]
        probs = self.decisions(rows).probs
        return probs[torch.arange(probs.shape[1]) < counts[:, None]][:, None]

    def gradients(self, rows: Rows, decisions: Decisions) -> Gradients:
        """(p_k − 1[k = ŷ]) ⊗ h_k, a row an option."""
        import torch

        from nlp_al.signals import Gradients, residual

        valid = torch.arange(decisions.probs.shape[1]) < rows.offsets.diff()[:, None]
        return Gradients(residual(decisions.masked)[valid][:, None], rows.hidden.float(), rows.offsets)

    # Scores

    def as_label(self, predicted: Any, example: Example) -> Any:
        """The first of them."""
        return self.answers(example)[predicted[0]]

    def predict(self, decisions: Decisions) -> list[Any]:
        """The options of each context, the most probable first; among equals the first one."""
        assert decisions.options is not None
        order = decisions.masked.argsort(dim=1, descending=True, stable=True).tolist()
        return [row[:count] for row, count in zip(order, decisions.options.tolist(), strict=True)]

    def columns_of(self, label: Any, example: Example) -> list[int]:
        """The position of the right option."""
        return [self.position(label, len(self.options_of(example.inputs)))]

    def label_of(self, columns: Sequence[int], example: Example) -> Any:
        """The option in this place."""
        return self.answers(example)[columns[0]]

    def score(self, predicted: Sequence[Any], gold: Sequence[Any]) -> dict[str, float]:
        """Recall at 1, 2 and 5, and the mean of 1 / rank of the right option."""
        from nlp_al.metrics import RankingScores

        pairs = zip(predicted, gold, strict=True)
        ranks = [order.index(self.position(label, len(order))) + 1 for order, label in pairs]
        scores: dict[str, float] = RankingScores().compute(predictions=ranks, references=[1] * len(ranks))
        return scores


def _is_whole(value: Any) -> bool:
    """A CSV file has positions as text, and a column with gaps has them as numbers with a point."""
    written = isinstance(value, str) and value.strip().removeprefix("-").isdigit()
    return written or (isinstance(value, float) and value.is_integer())


def joined(turns: Sequence[str], tokenizer: Any) -> str:
    """The turns of a context as one text, parted by the tokenizer's separator where it has one."""
    return f" {tokenizer.sep_token} ".join(turns) if tokenizer.sep_token else "\n".join(turns)


@contextmanager
def cutting(tokenizer: Any, side: str) -> Iterator[None]:
    """While it lasts, what is too long is cut on this side."""
    before = tokenizer.truncation_side
    tokenizer.truncation_side = side
    try:
        yield
    finally:
        tokenizer.truncation_side = before


def pieces_of(made: Any) -> Iterator[dict[str, Any]]:
    """What a tokenizer made of a list, text by text."""
    return (dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True))


def grouped(items: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    """A flat list in groups of these sizes."""
    ends = itertools.accumulate(counts)
    return [list(items[end - count : end]) for end, count in zip(ends, counts, strict=True)]
