"""What differs between tasks, and nothing else: reading rows, encoding, decisions, gradients, metrics.

Torch and transformers are imported inside the functions: a config is checked against these classes before they load.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nlp_al.errors import UserError
from nlp_al.heads import SLACK
from nlp_al.tasks.forms import TEXT, Form

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nlp_al.decisions import Decisions
    from nlp_al.heads import Head
    from nlp_al.pool import Example
    from nlp_al.signals import Gradients

Piece = dict[str, Any]
"""One sequence that a model reads: what the tokenizer made of it, and what `pick_rows` needs beside it."""


class RowError(UserError):
    """What is wrong with a row outside its label. role: that of the column to blame."""

    def __init__(self, role: str, told: str) -> None:
        super().__init__(told)
        self.role = role


class Rows(NamedTuple):
    """What a model computes for some examples, a row for each thing that it classifies.

    hidden: float[J, d], the input of the last linear layer. logits: float[J, R], None before there is a head.
    offsets: int64[n + 1], the rows of each example. context: float[n, d], what all rows of an example are compared
    with, where there is such a thing.
    """

    hidden: Tensor
    logits: Tensor | None
    offsets: Tensor
    context: Tensor | None = None


Said = Callable[[Any, Sequence[Any]], Any]
"""(the right option of a decision, its options) to what somebody says, which may be the same."""

READ = ("input_ids", "attention_mask", "token_type_ids")
"""What a model reads of a batch; the rest is ours."""


@dataclass(frozen=True)
class Options:
    """`task_options` of a task that has none."""


class Task(ABC):
    """A task over a fixed list of labels.

    name: the Hub's task name. shape: `single`, `multi`, `sequence` or `ranking`. columns: role → what it holds.
    metrics: names of the scores, the most telling first. auto_class: the transformers class of its models.
    read_by: options that change what the encoder makes of a unit. cut_at: the side on which a long text loses tokens.
    named: whether labels are made of names, out of a fixed list of at least `fewest`.
    several: roles that may be a list of columns.
    either: roles of which a data set has one.
    apart: whether an example is several units that the encoder reads apart, and each distinct one once.
    alike: whether all decisions are over the same options, as those of words are, or each is a question of its own.
    slack: how far a frozen head may go from where it starts, as in `heads`.
    pipeline_tag, category: what the Hub calls a model and a data set of the task, where that is not its name.
    """

    name: ClassVar[str]
    shape: ClassVar[str]
    columns: ClassVar[dict[str, str]]
    metrics: ClassVar[tuple[str, ...]]
    auto_class: ClassVar[str]
    apart: ClassVar[bool] = False
    alike: ClassVar[bool] = True
    named: ClassVar[bool] = True
    fewest: ClassVar[int] = 2
    read_by: ClassVar[tuple[str, ...]] = ("max_length",)
    cut_at: ClassVar[str] = "right"
    several: ClassVar[frozenset[str]] = frozenset()
    either: ClassVar[tuple[str, ...]] = ()
    slack: ClassVar[float] = SLACK
    pipeline_tag: ClassVar[str] = ""
    category: ClassVar[str] = ""
    Options: ClassVar[type] = Options

    @classmethod
    def of(cls, options: Any) -> Task:
        """The task with these options, which may decide among subclasses; its labels are still unknown."""
        return cls(options)

    def __init__(self, options: Any, labels: Sequence[str] = ()) -> None:
        self.options = options
        self.labels = tuple(labels)
        self.index = {label: at for at, label in enumerate(self.labels)}

    def with_labels(self, labels: Sequence[str]) -> Task:
        """The same task, its labels known."""
        return type(self)(self.options, labels)

    # Rows of a data set

    @abstractmethod
    def read(self, row: Mapping[str, Any], label_names: Sequence[str] | None) -> tuple[Any, int, Any]:
        """(inputs, words, label) of one row whose columns were renamed to their roles.

        label_names: names of a ClassLabel column, whose values are then positions in it.

        Raises:
            RowError: what is wrong with the row, without its place. UserError: the same, where the label is to blame.
        """

    @abstractmethod
    def names_in(self, label: Any) -> Sequence[str]:
        """The label names that one gold label is made of; none where labels have no names."""

    def renamed(self, label: Any, names: Mapping[str, str]) -> Any:
        """A label after some names have changed. names: old → new."""
        return names.get(label, label)

    def label_set(self, names: Iterable[str]) -> list[str]:
        """The task's labels, out of the names that the config lists, or that train's labels are made of."""
        return list(names)

    def readable(self, label: Any, example: Example) -> bool:
        """Whether an answer is a label that this example can have."""
        return isinstance(label, str) and label in self.index

    def parts(self, label: Any) -> list[Any]:
        """The option that a label takes in each decision; by these several people's labels are compared and counted."""
        return [label]

    def whole(self, parts: Sequence[Any]) -> Any:
        """The label that takes these options."""
        return parts[0]

    def expects(self, example: Example) -> str:
        """What an answer must be, for people."""
        return f"the labels are {listed(self.labels)}"

    def askable(self, example: Example) -> bool:
        """Whether there is anything to decide about this example."""
        return True

    def optional(self) -> frozenset[str]:
        """Roles whose column may be missing."""
        return frozenset()

    def complete(self, splits: dict[str, list[Example]], source: str) -> dict[str, list[Example]]:
        """Adds what examples lack, with the weights of `source` where that takes a model. All processes call it."""
        return splits

    def guidelines(self, given: Mapping[str, str]) -> dict[str, str]:
        """What an annotator chooses from, with the words that explain each. given: those of the config."""
        return {name: given.get(name, "") for name in self.labels}

    def question(self, inputs: Any) -> dict[str, Any]:
        """What an annotator is shown, by role."""
        return inputs if isinstance(inputs, dict) else {next(iter(self.columns)): inputs}

    def form(self, examples: Sequence[Example]) -> Form:
        """What people see and are asked, over all of these examples."""
        return Form(dict.fromkeys(self.shown(examples[0].inputs), TEXT), "label", {name: name for name in self.labels})

    def shown(self, inputs: Any) -> dict[str, Any]:
        """The values of the form's fields."""
        return self.question(inputs)

    def to_form(self, label: Any, example: Example) -> Any:
        """A label as the form's question has it: an option, a list of them, or of {start, end, label}."""
        return label

    def from_form(self, value: Any, example: Example) -> Any:
        """The label that an answer in the form stands for; UserError where it stands for none."""
        return value

    def column(self, label: Any, example: Example) -> Any:
        """A label as a column of a data set has it; `read` takes it back."""
        return label

    def feature(self, example: Example) -> Any:
        """The type of that column, as `datasets` has it; None: the one that the values have."""
        return None

    def mistaken(self, label: Any, example: Example, said: Said) -> Any:
        """What somebody says instead of a gold label, decision by decision."""
        return said(label, self.labels)

    def remarks(self) -> list[str]:
        """What the user should know of the rows that were read, in sentences."""
        return []

    def only_label(self, labels: Sequence[Any]) -> Any:
        """What all labels say alike, so that there is nothing to learn yet; None where there is more, or none."""
        names = {name for label in labels for name in self.names_in(label)}
        return next(iter(names)) if len(names) == 1 else None

    # Models

    def reading(self) -> dict[str, Any]:
        """The options that change what the encoder makes of a unit."""
        return {name: value for name, value in vars(self.options).items() if name in self.read_by}

    def units(self, inputs: Any) -> Sequence[Any]:
        """What the encoder reads of an example, each unit on its own."""
        return [inputs]

    def passage(self, inputs: Any, tokenizer: Any) -> str:
        """What an example is about, as one text; candidates are left out."""
        return inputs if isinstance(inputs, str) else f" {tokenizer.sep_token or ''} ".join(inputs)

    @abstractmethod
    def encode(self, tokenizer: Any, units: Sequence[Any]) -> list[list[Piece]]:
        """What a model reads of each unit: one piece, or several where it is longer than the window or has options."""

    def too_long(self, tokenizer: Any, units: Sequence[Any]) -> list[bool]:
        """Whether a unit loses tokens to the window."""
        return [False] * len(units)

    @abstractmethod
    def targets(self, pieces: Sequence[Piece], label: Any) -> list[Any]:
        """The `labels` entry of each piece that the model is trained with."""

    def items(self, tokenizer: Any, labelled: Sequence[tuple[Any, Any]]) -> list[Any]:
        """What training batches are made of, out of (inputs, label): here a piece with its targets each."""
        found = []
        encoded = self.encode(tokenizer, [inputs for inputs, _ in labelled])
        for pieces, (_, label) in zip(encoded, labelled, strict=True):
            targets = self.targets(pieces, label)
            found += [{**piece, "labels": target} for piece, target in zip(pieces, targets, strict=True)]
        return found

    def collate(self, tokenizer: Any, items: Sequence[Any]) -> dict[str, Any]:
        """A training batch out of `items`."""
        return {name: values for name, values in self.pad(tokenizer, items).items() if name in (*READ, "labels")}

    def length(self, item: Any) -> int:
        """Tokens of one of `items`."""
        return len(item["input_ids"])

    def token_ids(self, tokenizer: Any, items: Sequence[Any]) -> set[int]:
        """Every token that a training batch may hold."""
        return {tokenizer.pad_token_id or 0}.union(*(item["input_ids"] for item in items))

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> Tensor | None:
        """The loss of a training batch; None: what the model itself returns for its `labels`."""
        return None

    @abstractmethod
    def pick_rows(self, values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Rows, and the offsets of the pieces, out of a padded batch's values, as the classifier saw or gave them."""

    @abstractmethod
    def pool_rows(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Rows, and the offsets of the pieces, out of the last hidden layer [B, T, d] of an encoder without a head."""

    def assemble(self, hidden: Tensor, offsets: Tensor, examples: Sequence[Example]) -> Rows:
        """The rows of examples out of those of their units, which lie one after the other. offsets: of the examples."""
        return Rows(hidden, None, offsets)

    # Heads on frozen features

    @abstractmethod
    def fit_head(self, rows: Rows, labels: Sequence[Any]) -> Head:
        """A convex fit of the last layer on the rows of labelled examples."""

    def score_rows(self, rows: Rows, head: Head) -> Rows:
        """The same rows with a head's logits, in the precision of the features."""
        import torch

        logits = torch.addmm(head.bias.to(rows.hidden.dtype), rows.hidden, head.weight.to(rows.hidden.dtype).T)
        return rows._replace(logits=logits)

    def trained_head(self, model: nn.Module) -> Head:
        """The head under which an encoder that reads units apart was trained; for `apart` alone."""
        raise NotImplementedError

    # Signals

    def decisions(self, rows: Rows) -> Decisions:
        """The distributions: here a softmax a row."""
        from nlp_al.decisions import Decisions

        assert rows.logits is not None
        return Decisions(rows.logits.float().softmax(dim=1), rows.offsets)

    def gradients(self, rows: Rows, decisions: Decisions) -> Gradients:
        """Last-layer gradients under the predicted labels, averaged over an example's rows."""
        from nlp_al.signals import Gradients, residual

        lengths = rows.offsets.diff()
        share = lengths.repeat_interleave(lengths).to(decisions.probs.dtype)
        return Gradients(residual(decisions.probs) / share[:, None], rows.hidden.float(), rows.offsets)

    def embeddings(self, rows: Rows) -> Tensor:
        """float[n, d]: the mean of an example's rows."""
        from nlp_al.decisions import segment_mean

        return segment_mean(rows.hidden.float(), rows.offsets)

    def transitions(self) -> Tensor | None:
        """float[O + 1, O], log-weights of one option after another (last row: as the first); None: all alike."""
        return None

    @property
    def outside(self) -> int | None:
        """The column of a decision that says "nothing here"; None: there is no such option."""
        return None

    def pad(self, tokenizer: Any, encodings: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A padded batch."""
        import torch

        longest = max(len(e["input_ids"]) for e in encodings)
        fill = {"input_ids": tokenizer.pad_token_id or 0, "labels": -100}
        right = tokenizer.padding_side == "right"
        batch = {}
        for name in encodings[0]:
            values = [e[name] for e in encodings]
            if not isinstance(values[0], list):
                batch[name] = torch.tensor(values)
                continue
            padded = []
            for value in values:
                padding = [fill.get(name, 0)] * (longest - len(value))
                padded.append([*value, *padding] if right else [*padding, *value])
            batch[name] = torch.tensor(padded)
        return batch

    def head_config(self) -> dict[str, Any]:
        """What the model's config says of its head."""
        return {"id2label": dict(enumerate(self.labels)), "label2id": dict(self.index), "num_labels": len(self.labels)}

    def new_model(self, source: str) -> nn.Module:
        """A model with a fresh head for this task's labels on the weights of a Hub id or folder."""
        import transformers

        # A checkpoint may bring the head of another task; then this one starts afresh.
        model: nn.Module = getattr(transformers, self.auto_class).from_pretrained(
            source, ignore_mismatched_sizes=True, **self.head_config()
        )
        config: Any = model.config
        if config.pad_token_id is None:  # a decoder, which looks for the last token that is no padding
            from nlp_al.signals.loading import load_tokenizer

            config.pad_token_id = load_tokenizer(source).pad_token_id
        return model

    def usage(self, example: Example) -> str:
        """Python that asks the model in the folder or repository `source`, with transformers alone.

        example: one that is like those of the run, whose text is not told.
        """
        return f"""\
from transformers import {self.auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(source)
model = {self.auto_class}.from_pretrained(source)
"""

    # Scores

    def constant(self, name: Any, example: Example) -> Any:
        """The label of an example that says what `only_label` found."""
        return name

    @abstractmethod
    def predict(self, decisions: Decisions) -> list[Any]:
        """The predicted label of each example, by name."""

    def choices(self, decisions: Decisions) -> Tensor:
        """int64[M]: the column of each decision that is predicted."""
        return decisions.masked.argmax(dim=1)

    def columns_of(self, label: Any, example: Example) -> list[int]:
        """The column of each decision that a label takes."""
        return [self.index[label]]

    def label_of(self, columns: Sequence[int], example: Example) -> Any:
        """The label that takes these columns; the other way round than `columns_of`."""
        return self.labels[columns[0]]

    def subjects(self, example: Example) -> list[str]:
        """What each decision is about, for people; nothing where there is just one."""
        return [""]

    def as_label(self, predicted: Any, example: Example) -> Any:
        """The label that a prediction stands for."""
        return predicted

    def confidence(self, decisions: Decisions, predicted: Sequence[Any]) -> list[Any]:
        """How probable each prediction is: a number, or a list where a label in the form has several parts."""
        sure: list[float] = decisions.probs.max(1).values[decisions.offsets[:-1]].tolist()
        return sure

    @abstractmethod
    def score(self, predicted: Sequence[Any], gold: Sequence[Any]) -> dict[str, float]:
        """The task's metrics."""


def listed(names: Sequence[str]) -> str:
    """Names, the first 20 of many."""
    return f"{', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"


def label_name(value: Any, label_names: Sequence[str] | None) -> str | None:
    """One gold label by name; None where there is none.

    Raises:
        UserError: it is neither text nor a whole number.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UserError(f"the label {value!r} is neither text nor a whole number; write it as text")
    if isinstance(value, float):
        if not value.is_integer():
            raise UserError(f"the label {value!r} is neither text nor a whole number; write it as text")
        value = int(value)
    if label_names is not None and isinstance(value, int):
        if value >= len(label_names):
            raise UserError(f"the label {value} is not among the {len(label_names)} labels, which count from 0")
        return label_names[value] if value >= 0 else None  # −1 means unlabelled in a ClassLabel column
    return str(value)
