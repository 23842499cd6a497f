"""A pretrained encoder that reads each text once, and the cache on disk that every run shares."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from nlp_al.pool import Example
from nlp_al.processes import gathered, processes, shared
from nlp_al.signals import take_rows
from nlp_al.signals.loading import load_encoder, load_tokenizer
from nlp_al.store import told

if TYPE_CHECKING:
    from nlp_al.tasks import Rows, Task

CHUNK = 8192
"""Examples that are encoded between two writes of the cache."""


def cache_root() -> Path:
    """Where features are kept: NLP_AL_CACHE, or nlp-al in the user's cache folder."""
    given = os.environ.get("NLP_AL_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "nlp-al"


class FeatureStore:
    """Rows of features by the hash of the text, memory-mapped.

    A folder of safetensors files that are written once, by rename, and never changed: a crash leaves no half file, and
    processes beside each other need no lock (at worst two of them encode the same text).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where: dict[bytes, tuple[int, int]] = {}
        self._files: list[tuple[Tensor, Tensor]] = []
        self._read: set[Path] = set()
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def missing(self, examples: Iterable[Example]) -> list[Example]:
        """The examples that have no features yet, one for each distinct text."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._read:
                self._open(path)
        return list({e.key: e for e in examples if e.key not in self._where}.values())

    def add(self, keys: Sequence[bytes], values: Tensor, offsets: Tensor) -> None:
        """Keeps float32[J, d] rows; example i owns offsets[i]:offsets[i + 1]."""
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        fresh = path.with_suffix(".new")
        table = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).reshape(len(keys), -1)
        with told(path):
            save_file({"keys": table, "offsets": offsets, "features": values.contiguous()}, fresh)
            fresh.rename(path)
        self._open(path)

    def rows(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """float32[J, d] features of examples that are all there, and their offsets. A view where they lie together."""
        found = [self._where[e.key] for e in examples]
        files = {file for file, _ in found}
        places = torch.tensor([place for _, place in found])
        if len(files) == 1:
            values, offsets = self._files[files.pop()]
            if bool((places.diff() == 1).all()):
                first, last = int(places[0]), int(places[-1]) + 1
                return values[offsets[first] : offsets[last]], offsets[first : last + 1] - offsets[first]
            rows, parted = take_rows(offsets, places)
            return values[rows], parted
        parts = [self._of_file(file, found) for file in sorted(files)]
        whole = torch.cat([values for values, _, _ in parts])
        lengths = torch.cat([offsets.diff() for _, offsets, _ in parts])
        order = torch.argsort(torch.cat([at for _, _, at in parts]))
        rows, parted = take_rows(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), order)
        return whole[rows], parted

    def _of_file(self, file: int, found: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.tensor([i for i, (f, _) in enumerate(found) if f == file])
        values, offsets = self._files[file]
        rows, parted = take_rows(offsets, torch.tensor([found[i][1] for i in at.tolist()]))
        return values[rows], parted, at

    def _open(self, path: Path) -> None:
        with safe_open(path, framework="pt") as tensors:
            keys, offsets = tensors.get_tensor("keys"), tensors.get_tensor("offsets")
            values = tensors.get_tensor("features")
        self._read.add(path)
        self._files.append((values, offsets))
        width = keys.shape[1]
        flat = keys.numpy().tobytes()
        for place in range(len(keys)):
            self._where.setdefault(flat[place * width : (place + 1) * width], (len(self._files) - 1, place))


class Encoder:
    """A pretrained encoder, never fine-tuned, and the features of every text that it has read.

    The weights are loaded when the first text is missing from the cache. Encoding is shared among processes; the main
    process keeps the features, the others need none.
    """

    def __init__(self, source: str, task: Task, batch_size: int = 32) -> None:
        self.source = source
        self.task = task
        self.batch_size = batch_size
        self._whole: dict[int, tuple[Sequence[Example], Tensor, Tensor]] = {}

    @cached_property
    def _model(self) -> tuple[torch.nn.Module, str]:
        return load_encoder(self.source)

    @property
    def weights(self) -> str:
        """A hash of the weights."""
        return self._model[1]

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return load_tokenizer(self.source)

    @cached_property
    def store(self) -> FeatureStore:
        """The cache for these weights, this tokenizer and this way of pooling."""
        tokenizer = hashlib.blake2b(self.tokenizer.backend_tokenizer.to_str().encode(), digest_size=8).hexdigest()
        what = json.dumps([self.weights, tokenizer, self.task.name, vars(self.task.options)])
        return FeatureStore(cache_root() / "features" / hashlib.blake2b(what.encode(), digest_size=12).hexdigest())

    def encode(self, examples: Sequence[Example]) -> None:
        """Reads every text that the cache lacks. All processes call it together."""
        state = processes()
        by_key = {e.key: e for e in examples}
        wanted = [by_key[key] for key in shared([e.key for e in self.store.missing(examples)])]
        if not wanted:
            return
        model = self._model[0].to(state.device).eval()
        if state.is_main_process:
            print(f"Encoding {len(wanted)} texts with {self.source}, once for all runs ...", flush=True)
        # None: no bar where the output is no terminal.
        bar = tqdm(
            total=len(wanted),
            desc="encoding",
            unit="text",
            disable=None if state.is_main_process else True,
            leave=False,
        )
        for start in range(0, len(wanted), CHUNK):
            chunk = wanted[start : start + CHUNK]
            self._encode_chunk(model, chunk, bar)
        bar.close()

    def _encode_chunk(self, model: torch.nn.Module, chunk: list[Example], bar: Any) -> None:
        encodings = self.task.encode(self.tokenizer, [e.inputs for e in chunk])
        state = processes()
        # Batches are composed over the whole chunk and only then dealt out, so the process count changes no arithmetic.
        batches = batches_by_length([len(e["input_ids"]) for e in encodings], self.batch_size)
        mine = []
        for members in batches[state.process_index :: state.num_processes]:
            batch = self.task.pad(self.tokenizer, [encodings[i] for i in members])
            batch = {name: values.to(state.device) for name, values in batch.items()}
            with torch.inference_mode():
                hidden = model(**{k: v for k, v in batch.items() if k in READ}).last_hidden_state.float()
                rows, offsets = self.task.pool_rows(hidden, batch)
            mine.append((members, rows.cpu(), offsets.cpu()))
            bar.update(len(members) * state.num_processes)
        found = gathered(mine)
        if state.is_main_process:
            values, offsets = in_order(found)
            self.store.add([e.key for e in chunk], values, offsets)

    def rows(self, examples: Sequence[Example]) -> Rows:
        """Features of examples that were encoded. For the main process."""
        from nlp_al.tasks import Rows

        values, offsets = self.store.rows(examples)
        return Rows(values, None, offsets)


READ = ("input_ids", "attention_mask", "token_type_ids")
"""What a model reads of a batch; the rest is ours."""


def batches_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Positions in batches of at most `size`, longest first, so that padding is least and memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def in_order(parts: Sequence[tuple[list[int], Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows of batches, given as (positions, rows, offsets), in the order of the positions."""
    positions = torch.tensor([at for members, _, _ in parts for at in members])
    lengths = torch.cat([offsets.diff() for _, _, offsets in parts])
    rows, offsets = take_rows(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), torch.argsort(positions))
    return torch.cat([values for _, values, _ in parts])[rows], offsets
