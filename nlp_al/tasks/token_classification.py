"""Named entity recognition: one decision a word, read at its first sub-word."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nlp_al.errors import UserError
from nlp_al.tasks.base import Piece, RowError, Rows, Said, Task, label_name, listed
from nlp_al.tasks.forms import TEXT, Form
from nlp_al.tasks.tags import (
    OUTSIDE,
    as_bio,
    parted,
    spans_of_tags,
    tag_set,
    tags_of_spans,
    transitions,
    whole_words,
)
from nlp_al.values import about, shown

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.decisions import Decisions
    from nlp_al.heads import Head
    from nlp_al.pool import Example


@dataclass(frozen=True)
class TokenOptions:
    """`task_options` of token classification."""

    max_length: int = about("tokens that the model reads at once; a longer sentence is read in several windows", 128)
    stride: int | None = about("tokens that neighbouring windows share at least; null: a quarter of max_length")
    invalid_tags: Literal["repair", "refuse"] = about(
        "repair or refuse: what is done where I-X goes on with no entity of type X; repair reads it as B-X", "repair"
    )
    constrained: bool = about(
        "whether predictions are the best tags that keep to BIO, not the best of each word", False
    )

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError(f"max_length is {self.max_length}; it must be at least 3.")
        if self.stride is not None and not 0 <= self.stride < self.max_length - 2:
            raise ValueError(f"stride is {self.stride}; it must be at least 0 and below max_length - 2.")


class TokenClassification(Task):
    """One BIO tag for each word, of a list of words or of a text that is split into words here."""

    name: ClassVar[str] = "token-classification"
    shape: ClassVar[str] = "sequence"
    columns: ClassVar[dict[str, str]] = {
        "tokens": "list of words; or text",
        "text": "text that is split at spaces and punctuation; or tokens",
        "tags": "list of tags (BIO, IOBES, BILOU: text, numbers or ClassLabel); of a text, list of {start, end, label}",
    }
    either: ClassVar[tuple[str, ...]] = ("tokens", "text")
    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall")
    read_by: ClassVar[tuple[str, ...]] = ("max_length", "stride")
    fewest: ClassVar[int] = 1
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    Options: ClassVar[type] = TokenOptions

    def __init__(self, options: Any, labels: Sequence[str] = ()) -> None:
        super().__init__(options, labels)
        self._repaired = 0

    # Rows of a data set

    def read(self, row: Mapping[str, Any], label_names: Sequence[str] | None) -> tuple[Any, int, Any]:
        """The words, or {text, offsets of its words}; how many words there are; their tags in BIO."""
        given = row.get("tags")
        if "tokens" in row:
            words = row["tokens"]
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise RowError("tokens", f"{shown(words)} is no list of words")
            if not words:
                raise RowError("tokens", "the sentence is empty")
            return words, len(words), self._read_tags(words, given, label_names)
        inputs = split_text(row["text"])
        tags = None if given is None else tags_of_spans(inputs["text"], inputs["offsets"], given)
        return inputs, len(inputs["offsets"]), tags

    def _read_tags(self, words: Sequence[str], tags: Any, label_names: Sequence[str] | None) -> list[str] | None:
        if tags is not None and not isinstance(tags, list):
            raise UserError(f"{shown(tags)} is no list of tags")
        if not tags:
            return None
        if len(tags) != len(words):
            raise UserError(f"there are {len(words)} tokens but {len(tags)} tags")
        if any(type(tag) in (int, float) for tag in tags):
            nameless = next((name for name in label_names or [""] if not parted(name)), None)
            if nameless is not None:
                what = (
                    f"one stands for {nameless!r}, which is no tag" if nameless else "nothing says what they stand for"
                )
                raise UserError(
                    f"the tags are numbers, and {what}; list the tags in the order of their numbers under labels, as "
                    "[O, B-PER, I-PER]"
                )
        named = [label_name(tag, label_names) for tag in tags]
        plain = [name for name in named if name is not None]
        if len(plain) < len(named):
            raise UserError("a tag is missing")
        bio, odd = as_bio(plain)
        if odd and self.options.invalid_tags == "refuse":
            raise UserError(
                f"the tag {plain[odd[0]]!r} of word {odd[0] + 1} ({shown(words[odd[0]])}) goes on with an entity that "
                "has not begun; correct it, or set task_options.invalid_tags: repair"
            )
        self._repaired += len(odd)
        return bio

    def remarks(self) -> list[str]:
        """How many tags were repaired."""
        if not self._repaired:
            return []
        told = "tags I-X went on with no entity of type X; each was read as the beginning of one (B-X)."
        return [f"{self._repaired} {told}"]

    def mistaken(self, label: Any, example: Example, said: Said) -> Any:
        """A tag is said of each word."""
        return [said(tag, self.labels) for tag in label]

    def names_in(self, label: Any) -> Sequence[str]:
        """The tags."""
        return list(label)

    def renamed(self, label: Any, names: Mapping[str, str]) -> list[str]:
        """The tags, their types renamed."""
        return [tag if tag == OUTSIDE else f"{tag[:2]}{names.get(tag[2:], tag[2:])}" for tag in label]

    def label_set(self, names: Iterable[str]) -> list[str]:
        """O, and B-X and I-X of every type X; names may be tags of any scheme, or types."""
        return tag_set(names)

    def parts(self, label: Any) -> list[Any]:
        """The tag of each word; one that goes on with no entity begins one."""
        return as_bio(label)[0]

    def whole(self, parts: Sequence[Any]) -> list[str]:
        """The tags in BIO; put together word by word, they may go on with what has not begun."""
        return as_bio(parts)[0]

    def expects(self, example: Example) -> str:
        """A tag for each word."""
        return f"it must be a list of {len(self.words(example.inputs))} tags, one a word, out of {listed(self.labels)}"

    def guidelines(self, given: Mapping[str, str]) -> dict[str, str]:
        """The types, which people mark spans with."""
        return {kind: given.get(kind, "") for kind in dict.fromkeys(tag[2:] for tag in self.labels if tag != OUTSIDE)}

    def form(self, examples: Sequence[Example]) -> Form:
        """Spans of the text; a sentence without entities has none."""
        return Form({"text": TEXT}, "spans", {kind: kind for kind in self.guidelines({})})

    def shown(self, inputs: Any) -> dict[str, Any]:
        """The text; of a list of words, these with spaces between them."""
        return {"text": self._text(inputs)[0]}

    def to_form(self, label: Any, example: Example) -> list[dict[str, Any]]:
        """The entities as {start, end, label}, positions of characters in what is shown."""
        return spans_of_tags(self._text(example.inputs)[1], label)

    def from_form(self, value: Any, example: Example) -> list[str]:
        """A tag a word. A span that cuts a word is read as if it took in the whole word."""
        text, offsets = self._text(example.inputs)
        return tags_of_spans(text, offsets, [whole_words(offsets, span) for span in value])

    def column(self, label: Any, example: Example) -> Any:
        """The tags of words; the spans of a text."""
        return self.spans(example.inputs, label) if isinstance(example.inputs, Mapping) else label

    def feature(self, example: Example) -> Any:
        """A list of tags, or of spans."""
        import datasets

        if isinstance(example.inputs, Mapping):
            place = datasets.Value("int64")
            return datasets.List({"start": place, "end": place, "label": datasets.Value("string")})
        return datasets.List(datasets.ClassLabel(names=list(self.labels)))

    def _text(self, inputs: Any) -> tuple[str, Sequence[Sequence[int]]]:
        """What is shown, and where its words lie."""
        if isinstance(inputs, Mapping):
            return inputs["text"], inputs["offsets"]
        ends = list(itertools.accumulate(len(word) + 1 for word in inputs))
        return " ".join(inputs), [[end - 1 - len(word), end - 1] for word, end in zip(inputs, ends, strict=True)]

    def words(self, inputs: Any) -> list[str]:
        """The words of an example."""
        if isinstance(inputs, Mapping):
            return [inputs["text"][start:end] for start, end in inputs["offsets"]]
        return list(inputs)

    def spans(self, inputs: Mapping[str, Any], tags: Sequence[str]) -> list[dict[str, Any]]:
        """The entities of a text as {start, end, label}, positions of characters. tags: one a word."""
        return spans_of_tags(inputs["offsets"], tags)

    def readable(self, label: Any, example: Example) -> bool:
        """A tag for every word; one that begins no entity may be refused."""
        whole = isinstance(label, (list, tuple)) and len(label) == len(self.words(example.inputs))
        if not (whole and all(isinstance(tag, str) and tag in self.index for tag in label)):
            return False
        return self.options.invalid_tags == "repair" or not as_bio(label)[1]

    def _positions(self, label: Sequence[str]) -> list[int]:
        """The tags as columns. People and simulated mistakes may leave an entity without its beginning."""
        return [self.index[tag] for tag in as_bio(label)[0]]

    # Models

    def passage(self, inputs: Any, tokenizer: Any) -> str:
        """The words, with spaces between them."""
        return self._text(inputs)[0]

    def encode(self, tokenizer: Any, units: Sequence[Any]) -> list[list[Piece]]:
        """A piece a window; `first` marks the first sub-word of each word, in one piece each."""
        from nlp_al.tasks.windows import encode_words

        stride = self.options.max_length // 4 if self.options.stride is None else self.options.stride
        return encode_words(tokenizer, [self.words(unit) for unit in units], self.options.max_length, stride)

    def targets(self, pieces: Sequence[Piece], label: Any) -> list[Any]:
        """The tag of each first sub-word; −100 everywhere else."""
        tags = iter(self._positions(label))
        return [[next(tags) if first else -100 for first in piece["first"]] for piece in pieces]

    def pick_rows(self, values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The first sub-words, piece by piece."""
        import torch

        first = batch["first"].bool()
        return values[first], torch.cat([torch.zeros(1, dtype=torch.int64), first.sum(1).cpu().cumsum(0)])

    def pool_rows(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The first sub-words, as with a head."""
        return self.pick_rows(hidden, batch)

    def fit_head(self, rows: Rows, labels: Sequence[Any]) -> Head:
        """Multinomial logistic regression over the words."""
        import torch

        from nlp_al.heads import softmax_head

        tags = [at for label in labels for at in self._positions(label)]
        return softmax_head(rows.hidden, torch.tensor(tags), len(self.labels))

    def usage(self, example: Example) -> str:
        """A pipeline that reads a word at its first sub-word, as here."""
        return """\
from transformers import pipeline

tag = pipeline("token-classification", model=source, aggregation_strategy="first")
print(tag("A text, or words with spaces between them."))
"""

    # Scores

    def transitions(self) -> Tensor | None:
        """All tags may follow each other, but I-X only follows B-X and I-X."""
        return transitions(self.labels)

    @property
    def outside(self) -> int | None:
        """That of O."""
        return self.index.get(OUTSIDE)

    def constant(self, name: str, example: Example) -> list[str]:
        """The tag on every word."""
        return [name] * len(self.words(example.inputs))

    def choices(self, decisions: Decisions) -> Tensor:
        """The most probable tag of each word, or with `constrained` the most probable tags that keep to BIO."""
        if not self.options.constrained:
            return decisions.probs.argmax(1)
        from nlp_al.tasks.viterbi import best_paths

        return best_paths(decisions.probs, decisions.offsets, transitions(self.labels))

    def columns_of(self, label: Any, example: Example) -> list[int]:
        """The tag of each word."""
        return self._positions(label)

    def label_of(self, columns: Sequence[int], example: Example) -> list[str]:
        """The tags in BIO."""
        return self.whole([self.labels[column] for column in columns])

    def subjects(self, example: Example) -> list[str]:
        """The words, each between its neighbours."""
        words = self.words(example.inputs)
        return [
            " ".join([*words[max(at - 1, 0) : at], f"[{word}]", *words[at + 1 : at + 2]])
            for at, word in enumerate(words)
        ]

    def predict(self, decisions: Decisions) -> list[list[str]]:
        """The tags that are chosen, by name."""
        tags = [self.labels[at] for at in self.choices(decisions).tolist()]
        return [tags[start:end] for start, end in itertools.pairwise(decisions.offsets.tolist())]

    def confidence(self, decisions: Decisions, predicted: Sequence[Any]) -> list[list[float]]:
        """Of each entity: the mean over its words of the probabilities of their tags."""
        most = decisions.probs.max(1).values.tolist()
        found = []
        for start, tags in zip(decisions.offsets.tolist(), predicted, strict=False):
            words = [[at, at + 1] for at in range(start, start + len(tags))]
            spans = [most[span["start"] : span["end"]] for span in spans_of_tags(words, tags)]
            found.append([sum(span) / len(span) for span in spans])
        return found

    def score(self, predicted: Sequence[list[str]], gold: Sequence[list[str]]) -> dict[str, float]:
        """Precision, recall and F1 of whole entities, of all and of each type that the gold tags have."""
        from nlp_al.metrics import EntityScores

        references = [as_bio(tags)[0] for tags in gold]
        scores: dict[str, float] = EntityScores().compute(predictions=list(predicted), references=references)
        return scores


def split_text(text: Any) -> dict[str, Any]:
    """{text, offsets}: where each of its words begins and ends, in characters. Punctuation stands by itself.

    Raises:
        RowError: it is no text, or has no words.
    """
    from tokenizers.pre_tokenizers import BertPreTokenizer

    if text is not None and not isinstance(text, str):
        raise RowError("text", f"{shown(text)} is no text")
    offsets = [list(place) for _, place in BertPreTokenizer().pre_tokenize_str(text or "")]
    if not offsets:
        raise RowError("text", "the text is empty")
    return {"text": text, "offsets": offsets}
