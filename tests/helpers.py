"""What several tests need: text with classes in it, a tiny model with random weights, and the config of a small run."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WORDS = {
    "sport": ["goal", "match", "team", "coach", "league", "score", "stadium", "referee"],
    "money": ["bank", "market", "stock", "price", "loan", "interest", "profit", "tax"],
    "food": ["bread", "cheese", "soup", "salt", "oven", "recipe", "dinner", "onion"],
}
COMMON = ["the", "a", "of", "and", "to", "in", "was", "very", "new", "old", "big", "small", "today", "again", "said"]


def some_rows(count: int, seed: int = 0, prefix: str = "t", labels: Sequence[str] = ("sport", "money", "food")) -> list:
    """Rows with id, text and label; 3 to 12 words, about half of them telling of the class."""
    draw = random.Random(seed)
    rows = []
    for at in range(count):
        label = draw.choice(labels)
        words = [draw.choice(WORDS[label] if draw.random() < 0.5 else COMMON) for _ in range(draw.randint(3, 12))]
        rows.append({"id": f"{prefix}{at}", "text": " ".join(words), "label": label})
    return rows


def some_dialogues(count: int, seed: int = 0, prefix: str = "d", most: int = 5) -> list[dict[str, Any]]:
    """Contexts about a topic with 2 to `most` candidates; the right one is about it too."""
    draw = random.Random(seed)

    def said(about: str, words: int = 4) -> str:
        return " ".join(draw.choice(WORDS[about] if draw.random() < 0.7 else COMMON) for _ in range(words))

    rows = []
    for at in range(count):
        topic, *others = draw.sample(sorted(WORDS), 3)
        wanted = draw.randint(2, most)
        candidates: list[str] = []
        while len(candidates) < wanted:
            text = said(topic if not candidates else draw.choice(others))
            if text not in candidates:
                candidates.append(text)
        right = draw.randrange(wanted)
        candidates[0], candidates[right] = candidates[right], candidates[0]
        context = [said(topic, draw.randint(1, 8)) for _ in range(draw.randint(1, 4))]
        rows.append({"id": f"{prefix}{at}", "context": context, "candidates": candidates, "label": right})
    return rows


def some_sentences(count: int, seed: int = 0, prefix: str = "s") -> list[dict[str, Any]]:
    """Words with BIO tags: those about sport are entities, neighbours one together."""
    rows = []
    for row in some_rows(count, seed, prefix):
        words = row["text"].split()
        inside = [word in WORDS["sport"] for word in words]
        before = [False, *inside]
        tags = [("I-X" if before[at] else "B-X") if here else "O" for at, here in enumerate(inside)]
        rows.append({"id": row["id"], "tokens": words, "tags": tags})
    return rows


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """A JSON lines file; its path as text."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON lines file, none where it is not there."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def tiny_model(folder: Path, seed: int = 0) -> str:
    """A BERT of two layers with random weights and a word tokenizer for the texts of `some_rows`; its path as text."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: at for at, word in enumerate([*special, *COMMON, *(w for ws in WORDS.values() for w in ws)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def values_of(
    folder: Path, model: str, train: Sequence[Mapping[str, Any]], test: int = 30, **sections: Any
) -> dict[str, Any]:
    """The values of a config over these rows, and `test` other ones; `sections` go over it, mappings key by key.

    Frozen and without a final fit, unless they say otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {"train": write_lines(folder / "train.jsonl", train)}
    if test:
        files["test"] = write_lines(folder / "test.jsonl", some_rows(test, seed=1000, prefix="held-"))
    values: dict[str, Any] = {
        "task": "text-classification",
        "task_options": {"max_length": 32},
        "model": model,
        "dataset": {"path": "json", "data_files": files},
        "loop": {"initial": 10, "batch": 5, "rounds": 3},
        "training": {"mode": "frozen", "final": "none"},
        "run_dir": str(folder / "run"),
    }
    for name, section in sections.items():
        both = isinstance(section, Mapping) and isinstance(values.get(name), Mapping)
        values[name] = {**values[name], **section} if both else section
    return values
