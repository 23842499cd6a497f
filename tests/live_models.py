"""Fitted models of every task, tiny and in every mode, and what each says by the book: one example, nothing padded."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from helpers import some_dialogues, some_rows, some_sentences, tiny_model
from torch import Tensor

from nlp_al.config import TRAINING_DEFAULTS, Training
from nlp_al.pool import Example
from nlp_al.processes import processes
from nlp_al.signals.features import Pretrained
from nlp_al.signals.live import Item, Live
from nlp_al.signals.loading import load_tokenizer
from nlp_al.tasks import Rows, make_task
from nlp_al.training.frozen import FrozenModel, fit_head
from nlp_al.training.full import load_model, scorer_of

KINDS = {
    "text": ("text-classification", {"max_length": 32}, ["a", "b", "c"]),
    "labels": ("text-classification", {"max_length": 32, "multi_label": True}, ["a", "b", "c"]),
    "words": ("token-classification", {"max_length": 32}, ["O", "B-X", "I-X"]),
    "pairs": ("response-selection", {"form": "cross-encoder", "max_length": 40}, []),
    "apart": ("response-selection", {"form": "bi-encoder", "max_length": 40}, []),
}
CASES = [f"{mode} {kind}" for mode in ("full", "frozen") for kind in KINDS]


def lively_model(folder: Path) -> str:
    """As `tiny_model`, with larger weights, and a token `##s`, so that `goals` has two."""
    path = Path(tiny_model(folder))
    table = json.loads((path / "tokenizer.json").read_text())
    table["model"]["vocab"]["##s"] = len(table["model"]["vocab"])
    (path / "tokenizer.json").write_text(json.dumps(table))
    config = transformers.AutoConfig.from_pretrained(path)
    config.vocab_size, config.initializer_range = len(table["model"]["vocab"]), 0.3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        transformers.BertModel(config).save_pretrained(path)
    return str(path)


class Case(NamedTuple):
    """A fitted model, and examples that are not all of the same length; some words have two tokens, some come twice."""

    scorer: Any
    pool: list[Example]
    kind: str

    def logits(self, example: Example, moved: Sequence[Tensor] | None = None) -> Tensor:
        """[decisions, options], with something added to the embedded tokens of each piece."""
        model, tokenizer, _ = self.parts()
        pieces = self.pieces(example)
        moved = moved or [torch.zeros(())] * len(pieces)
        table = model.get_input_embeddings()
        found = []
        for piece, own in zip(pieces, moved, strict=True):
            batch = {name: values for name, values in piece.items() if name != "input_ids"}
            made = model(**batch, inputs_embeds=table(piece["input_ids"]) + own)
            frozen = hasattr(self.scorer, "head")
            found.append(self._row(made.last_hidden_state[0] if frozen else made.logits[0], example, tokenizer, frozen))
        if self.kind == "apart":
            context, *options = found
            weighted = context * self.scorer.head.weight[0].to(context)
            return torch.stack([weighted @ option for option in options])[None]
        rows = torch.cat(found)
        if hasattr(self.scorer, "head"):
            rows = rows @ self.scorer.head.weight.to(rows).T + self.scorer.head.bias.to(rows)
        if self.kind == "labels":
            return torch.stack([rows[0], torch.zeros_like(rows[0])], 1)
        return rows.T if self.kind == "pairs" else rows

    def _row(self, values: Tensor, example: Example, tokenizer: Any, frozen: bool) -> Tensor:
        if self.kind == "words":
            ids = tokenizer(" ".join(example.inputs)).word_ids(0)
            return values[[ids.index(word) for word in range(len(example.inputs))]]
        mean = values.mean(0) if frozen else values
        return mean / mean.norm() if self.kind == "apart" else mean[None]

    def pieces(self, example: Example) -> list[dict[str, Tensor]]:
        """What the model reads, each piece by itself."""
        return [dict(made.items()) for made in self._made(example)]

    def words(self, example: Example) -> list[list[str]]:
        """The word of each token of each piece that the example is about; empty for all others."""
        found = []
        for at, made in enumerate(self._made(example)):
            text = self._texts(example)[at]
            words = (text if isinstance(text, str) else text[0]).replace("[SEP]", " [SEP] ").split()
            about = self.kind != "apart" or at == 0
            ids, sides = made.word_ids(0), made.sequence_ids(0)
            own = [words[w] if side == 0 and about else "" for w, side in zip(ids, sides, strict=True)]
            found.append(["" if word == "[SEP]" else word for word in own])
        return found

    def real(self, example: Example) -> list[Tensor]:
        """[T, 1] for each piece: 1 for the tokens of words."""
        special = {0, 2, 3, 4}  # all but [UNK]
        return [
            torch.tensor([[float(token not in special)] for token in piece["input_ids"][0].tolist()])
            for piece in self.pieces(example)
        ]

    def _texts(self, example: Example) -> list[Any]:
        inputs = example.inputs
        if self.kind == "words":
            return [" ".join(inputs)]
        if self.kind in ("pairs", "apart"):
            context = " [SEP] ".join(inputs["context"])
            together = self.kind == "pairs"
            return [(context, c) for c in inputs["candidates"]] if together else [context, *inputs["candidates"]]
        return [inputs]

    def _made(self, example: Example) -> list[Any]:
        _, tokenizer, _ = self.parts()
        texts = [text if isinstance(text, tuple) else (text,) for text in self._texts(example)]
        return [tokenizer(*text, return_tensors="pt") for text in texts]

    def parts(self) -> tuple[Any, Any, Any]:
        """Model, tokenizer, task."""
        known = getattr(self.scorer, "encoder", self.scorer)
        return known.model.eval(), known.tokenizer, self.scorer.task


def case(folder: str, name: str, batch_size: int = 8) -> Case:
    """One of CASES."""
    mode, kind = name.split()
    task_name, options, labels = KINDS[kind]
    task = make_task(task_name, options).with_labels(labels)
    pool, gold = _examples(kind)
    if mode == "frozen":
        encoder = Pretrained(folder, task, batch_size)
        encoder.encode(pool)
        labelled = list(zip(pool, gold, strict=True))
        main = processes().is_main_process  # as in a run, where it alone has features and head
        return Case(fit_head(encoder, task, labelled) if main else FrozenModel(encoder, task), pool, kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = load_model(folder, task)
    training = Training(arguments={**TRAINING_DEFAULTS, "per_device_eval_batch_size": batch_size})
    return Case(scorer_of(model, load_tokenizer(folder), task, training), pool, kind)


def _examples(kind: str) -> tuple[list[Example], list[Any]]:
    if kind in ("pairs", "apart"):
        rows = some_dialogues(8, seed=2, most=4)
        made = [Example(row["id"], {k: row[k] for k in ("context", "candidates")}, 1) for row in rows]
        made[0].inputs["context"][0] += " goals goals"
        return made, [row["label"] for row in rows]
    if kind == "words":
        sentences = some_sentences(10, seed=2)
        for row in sentences:
            row["tokens"] = [f"{word}s" if at % 3 == 1 else word for at, word in enumerate(row["tokens"])]
        return [Example(row["id"], row["tokens"], 1) for row in sentences], [row["tags"] for row in sentences]
    rows = some_rows(10, seed=2)
    texts = [f"goals {row['text']} goals banks" if at % 2 else row["text"] for at, row in enumerate(rows)]
    names = dict(zip(("sport", "money", "food"), "abc", strict=True))
    labels = [names[row["label"]] for row in rows]
    gold = labels if kind == "text" else [[label] if at % 3 else ["a", "b"] for at, label in enumerate(labels)]
    return [Example(row["id"], text, 1) for row, text in zip(rows, texts, strict=True)], gold


class _Table(torch.nn.Module):
    """Embeddings and nothing else."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Embedding.from_pretrained(vectors.float())

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table


def linear(
    weight: Tensor, texts: Sequence[Sequence[Sequence[float]]], same: bool = False, several: bool = False
) -> tuple[Live, list[Item]]:
    """A classifier whose logits are weight · (the mean of the token vectors), and texts as the vectors of their tokens.

    same: whether equal vectors are one word, or each token is. several: whether each logit is that of a yes.
    """
    vectors = torch.tensor([[0.0] * weight.shape[1], *itertools.chain(*texts)])
    model = _Table(vectors)

    def read(batch: Any, pieces: Tensor, examples: Any) -> Rows:
        mask = batch["attention_mask"][:, :, None].float()
        mean = (model.table(batch["input_ids"]) * mask).sum(1) / mask.sum(1)
        return Rows(mean, mean @ weight.float().T, pieces)

    labels = [f"class {at}" for at in range(len(weight))]
    task = make_task("text-classification", {"multi_label": several}).with_labels(labels)
    tokenizer: Any = type("Tokenizer", (), {"pad_token_id": 0, "padding_side": "right"})()
    ids, items = itertools.count(1), []
    for at, text in enumerate(texts):
        own, known = [next(ids) for _ in text], []
        for vector in text:
            known += [vector] if vector not in known or not same else []
        word = [known.index(vector) + 1 for vector in text] if same else list(range(1, len(text) + 1))
        ones = [1] * len(text)
        spots = [(1, place, place, f"w{place}") for place in range(len(text))]
        places = list(range(1, len(text) + 1))
        pieces = [{"input_ids": own, "attention_mask": ones, "real": ones, "word": word, "spot": places}]
        items.append(Item(Example(f"t{at}", "", 1), pieces, len(known), spots))
    return Live(model, tokenizer, task, read), items
