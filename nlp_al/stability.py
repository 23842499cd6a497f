"""What stopping rules measure: what a model predicts, how far that is what the one before predicted, how sure it is."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from nlp_al.decisions import Decisions, entropy, least_confidence, segment_mean
from nlp_al.selection import BLOCK

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predicted columns of some examples' decisions, by id.

    ids: uint64[n], a hash of each. offsets: int64[n + 1]. columns: int64[M]. labels: of the model that predicted them.
    """

    ids: npt.NDArray[np.uint64]
    offsets: Whole
    columns: Whole
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str], columns: Any, offsets: Any, labels: Sequence[str] = ()) -> Predictions:
        """names: the ids, none of them twice. columns: int[M]. offsets: int[n + 1], the decisions of each example."""
        ids = np.array([_hash(name) for name in names], dtype=np.uint64)
        return cls(ids, np.asarray(offsets, np.int64), np.asarray(columns, np.int64), tuple(labels))

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        columns = self.columns.astype(np.min_scalar_type(int(self.columns.max(initial=0))))
        tensors = {"ids": self.ids, "offsets": self.offsets, "columns": columns}
        return save(tensors, {"labels": json.dumps(self.labels, ensure_ascii=False)})

    @classmethod
    def from_file(cls, path: str) -> Predictions:
        """What `to_bytes` made."""
        with safe_open(path, "numpy") as file:
            ids, offsets, columns = (file.get_tensor(name) for name in ("ids", "offsets", "columns"))
            labels = json.loads(file.metadata()["labels"])
        return cls(ids, offsets, columns.astype(np.int64), tuple(labels))

    def beside(self, later: Predictions) -> tuple[Whole, Whole]:
        """Both predictions of the examples that are in both, with as many decisions each; int64[K] each.

        Nothing compares where the labels are not the same ones: a column would mean something else.
        """
        if self.labels != later.labels:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        _, here, there = np.intersect1d(self.ids, later.ids, assume_unique=True, return_indices=True)
        same = np.diff(self.offsets)[here] == np.diff(later.offsets)[there]
        return _columns(self, here[same]), _columns(later, there[same])


def _columns(of: Predictions, at: Whole) -> Whole:
    """The columns of some examples, one after the other."""
    lengths = np.diff(of.offsets)[at]
    starts = of.offsets[:-1][at] - np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(at) else lengths
    return of.columns[np.repeat(starts, lengths) + np.arange(int(lengths.sum()))]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def kappa(before: Any, after: Any) -> float:
    """Cohen's kappa of two models' predictions, int[M] each, M ≥ 1, over all classes.

    Where both always say the same one class, chance alone would agree as well (0/0); that is 1 here.

    Raises:
        ValueError: there is nothing to compare, or they differ in length.
    """
    before, after = np.asarray(before, np.int64), np.asarray(after, np.int64)
    if before.shape != after.shape or before.ndim != 1 or not before.size:
        raise ValueError(f"kappa compares two equally long lists, not {before.shape} with {after.shape}.")
    size, classes = before.size, int(max(before.max(), after.max())) + 1
    agree = int((before == after).sum())
    # In whole numbers: 9 of 10 alike, and .5 by chance, are .8 to the last digit.
    chance = int(np.bincount(before, minlength=classes) @ np.bincount(after, minlength=classes))
    if chance == size * size:
        return 1.0
    return float((size * agree - chance) / (size * size - chance))


def kappas(before: Any, after: Any, labels: int = 1) -> tuple[float, ...]:
    """The kappa of each of `labels` yes-or-no labels of every text, whose decisions lie one after the other."""
    before, after = np.asarray(before).reshape(-1, labels), np.asarray(after).reshape(-1, labels)
    return tuple(kappa(before[:, at], after[:, at]) for at in range(labels))


def changed(before: Any, after: Any) -> float:
    """The share of predictions, int[M] each, that are others now."""
    before, after = np.asarray(before), np.asarray(after)
    return float((before != after).sum() / before.size)


def uncertainty(decisions: Decisions) -> tuple[Tensor, Tensor]:
    """(entropy, doubt), float64[n'] each, of the examples with something to decide.

    entropy: of each decision, divided by the logarithm of the number of its options. doubt: 1 − p₍₁₎. Both are averaged
    within an example: over the words of a sentence, over the labels of a text.
    """
    asked, rows = decisions.askable(), len(decisions.probs)
    shares, doubt = torch.empty(2, rows, dtype=torch.float64)
    for start in range(0, rows, BLOCK):
        part = slice(start, start + BLOCK)
        probs = decisions.probs[part].double()
        options = decisions.options[part] if decisions.options is not None else None
        block = Decisions(probs, torch.arange(len(probs) + 1), options)
        uniform = math.log(max(2, probs.shape[1])) if options is None else 1.0  # by their number it is divided already
        shares[part], doubt[part] = entropy(block) / uniform, least_confidence(block)
    first, second = (segment_mean(values, decisions.offsets)[asked] for values in (shares, doubt))
    return first, second


def summary(decisions: Decisions) -> dict[str, float]:
    """mean_entropy, max_entropy and max_doubt of what remains; empty where nothing does."""
    shares, doubt = uncertainty(decisions)
    if not len(shares):
        return {}
    return {
        "mean_entropy": float(shares.mean()),
        "max_entropy": float(shares.max()),
        "max_doubt": float(doubt.max()),
    }
