"""Encoders that read each text once, and the cache on disk that every run shares."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from nlp_al.pool import Example, content_hash
from nlp_al.processes import gathered, processes, shared
from nlp_al.signals import take_rows
from nlp_al.signals.loading import load_encoder, load_tokenizer
from nlp_al.signals.precision import Precision
from nlp_al.store import told
from nlp_al.tasks import READ, Rows, Task

CHUNK = 8192
"""Examples that are encoded between two writes of the cache."""


def cache_root() -> Path:
    """Where features are kept: NLP_AL_CACHE, or nlp-al in the user's cache folder."""
    given = os.environ.get("NLP_AL_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "nlp-al"


class Features:
    """Rows of features by the hash of the unit that they are of."""

    def __init__(self) -> None:
        self._where: dict[bytes, tuple[int, int]] = {}
        self._tables: list[tuple[Tensor, Tensor]] = []

    def missing(self, units: Mapping[bytes, Any]) -> list[bytes]:
        """The keys of the units that have no features yet."""
        return [key for key in units if key not in self._where]

    def add(self, keys: Sequence[bytes], values: Tensor, offsets: Tensor) -> None:
        """Keeps float32[J, d] rows; unit i owns offsets[i]:offsets[i + 1]."""
        self._tables.append((values, offsets))
        for place, key in enumerate(keys):
            self._where.setdefault(key, (len(self._tables) - 1, place))

    def rows(self, keys: Sequence[bytes]) -> tuple[Tensor, Tensor]:
        """float32[J, d] features of units that are all there, and their offsets. A view where they lie together."""
        found = [self._where[key] for key in keys]
        tables = {table for table, _ in found}
        places = torch.tensor([place for _, place in found])
        if len(tables) == 1:
            values, offsets = self._tables[tables.pop()]
            if bool((places.diff() == 1).all()):
                first, last = int(places[0]), int(places[-1]) + 1
                return values[offsets[first] : offsets[last]], offsets[first : last + 1] - offsets[first]
            rows, parted = take_rows(offsets, places)
            return values[rows], parted
        parts = [self._of_table(table, found) for table in sorted(tables)]
        whole = torch.cat([values for values, _, _ in parts])
        lengths = torch.cat([offsets.diff() for _, offsets, _ in parts])
        order = torch.argsort(torch.cat([at for _, _, at in parts]))
        rows, parted = take_rows(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), order)
        return whole[rows], parted

    def _of_table(self, table: int, found: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.tensor([i for i, (t, _) in enumerate(found) if t == table])
        values, offsets = self._tables[table]
        rows, parted = take_rows(offsets, torch.tensor([found[i][1] for i in at.tolist()]))
        return values[rows], parted, at


class FeatureStore(Features):
    """Features on the disk, memory-mapped, that every run shares.

    A folder of safetensors files that are written once, by rename, and never changed: a crash leaves no half file, and
    processes beside each other need no lock (at worst two of them encode the same text).
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._read: set[Path] = set()
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def missing(self, units: Mapping[bytes, Any]) -> list[bytes]:
        """The keys of the units that have no features here either."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._read:
                self._open(path)
        return super().missing(units)

    def add(self, keys: Sequence[bytes], values: Tensor, offsets: Tensor) -> None:
        """Writes a file of its own."""
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        fresh = path.with_suffix(".new")
        table = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).reshape(len(keys), -1)
        with told(path):
            save_file({"keys": table, "offsets": offsets, "features": values.contiguous()}, fresh)
            fresh.rename(path)
        self._open(path)

    def _open(self, path: Path) -> None:
        with safe_open(path, framework="pt") as tensors:
            keys, offsets = tensors.get_tensor("keys"), tensors.get_tensor("offsets")
            values = tensors.get_tensor("features")
        self._read.add(path)
        width, flat = keys.shape[1], keys.numpy().tobytes()
        super().add([flat[at : at + width] for at in range(0, len(flat), width)], values, offsets)


class Encoder:
    """An encoder, and the features of every unit that it has read: each once, however often it occurs.

    Reading is shared among processes; the main process keeps the features, the others need none.
    """

    def __init__(self, task: Task, batch_size: int = 32, precision: Precision | None = None) -> None:
        self.task = task
        self.batch_size = batch_size
        self.precision = precision or Precision()
        self._keys: dict[bytes, list[bytes]] = {}

    @property
    def model(self) -> torch.nn.Module:
        """Gives `last_hidden_state`."""
        raise NotImplementedError

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        raise NotImplementedError

    @property
    def store(self) -> Features:
        """Where the features are."""
        raise NotImplementedError

    def encode(self, examples: Sequence[Example]) -> None:
        """Reads every unit that the store lacks. All processes call it together."""
        state = processes()
        units: dict[bytes, Any] = {}
        for example in examples:
            units.update(zip(self._keys_of(example), self.task.units(example.inputs), strict=True))
        wanted = shared(self.store.missing(units))
        if not wanted:
            return
        model = self.model.to(state.device).eval()
        self.begin(len(wanted))
        # disable=None: no bar where the output is no terminal.
        quiet = None if state.is_main_process else True
        with tqdm(total=len(wanted), desc="encoding", unit="text", disable=quiet, leave=False) as bar:
            for start in range(0, len(wanted), CHUNK):
                chunk = wanted[start : start + CHUNK]
                self._encode_chunk(model, chunk, [units[key] for key in chunk], bar)

    def begin(self, count: int) -> None:
        """Called before units are read."""

    def read(self, model: torch.nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Rows, and the offsets of the pieces, of a padded batch."""
        hidden = model(**{k: v for k, v in batch.items() if k in READ}).last_hidden_state.float()
        return self.task.pool_rows(hidden, batch)

    def rest(self) -> None:
        """Leaves the accelerator; the next unit that is read takes the model back to it."""
        self.model.to("cpu")

    def _keys_of(self, example: Example) -> list[bytes]:
        """A key for each unit."""
        units = self.task.units(example.inputs)
        if len(units) == 1 and units[0] is example.inputs:
            return [example.key]
        if example.key not in self._keys:
            self._keys[example.key] = [content_hash(unit) for unit in units]
        return self._keys[example.key]

    def _encode_chunk(self, model: torch.nn.Module, keys: Sequence[bytes], units: Sequence[Any], bar: Any) -> None:
        encoded = self.task.encode(self.tokenizer, units)
        pieces = [piece for own in encoded for piece in own]
        state = processes()
        # Batches are composed over the whole chunk and only then dealt out, so the process count changes no arithmetic.
        batches = batches_by_length([len(piece["input_ids"]) for piece in pieces], self.batch_size)
        mine, done, before = [], 0, bar.n
        for members in batches[state.process_index :: state.num_processes]:
            batch = self.task.pad(self.tokenizer, [pieces[i] for i in members])
            batch = {name: values.to(state.device) for name, values in batch.items()}
            with torch.inference_mode(), self.precision.on(state.device):
                rows, offsets = self.read(model, batch)
            mine.append((members, rows.cpu(), offsets.cpu()))
            done = min(done + len(members) * state.num_processes, len(pieces))
            bar.update(before + done * len(keys) // len(pieces) - bar.n)
        found = gathered(mine)
        if state.is_main_process:
            values, offsets = in_order(found)
            self.store.add(keys, values, offsets[counts_to_offsets([len(own) for own in encoded])])

    def rows(self, examples: Sequence[Example]) -> Rows:
        """Features of examples that were encoded. For the main process."""
        keys = [self._keys_of(example) for example in examples]
        values, offsets = self.store.rows([key for own in keys for key in own])
        return self.task.assemble(values, offsets[counts_to_offsets([len(own) for own in keys])], examples)


class Pretrained(Encoder):
    """A pretrained encoder, never fine-tuned, over the cache on disk; it is loaded when the cache lacks a unit."""

    def __init__(self, source: str, task: Task, batch_size: int = 32) -> None:
        super().__init__(task, batch_size)
        self.source = source

    @cached_property
    def _loaded(self) -> tuple[torch.nn.Module, str]:
        return load_encoder(self.source)

    @property
    def model(self) -> torch.nn.Module:
        """The weights of `source`, without a head."""
        return self._loaded[0]

    @property
    def weights(self) -> str:
        """A hash of the weights."""
        return self._loaded[1]

    @cached_property
    def tokenizer(self) -> Any:
        """That of `source`."""
        return load_tokenizer(self.source)

    @cached_property
    def store(self) -> Features:
        """The cache for these weights, this tokenizer and this way of reading."""
        tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # Truncation and padding are those of the last call.
        kept = {name: value for name, value in tokenizer.items() if name not in ("truncation", "padding")}
        what = json.dumps([self.weights, kept, self.task.name, self.task.reading()])
        return FeatureStore(cache_root() / "features" / hashlib.blake2b(what.encode(), digest_size=12).hexdigest())

    def rest(self) -> None:
        """As all encoders, where it was loaded at all."""
        if "_loaded" in vars(self):
            super().rest()

    def begin(self, count: int) -> None:
        """Says why the first round takes longer."""
        if processes().is_main_process:
            print(f"Encoding {count} texts with {self.source}, once for all runs ...", flush=True)


class Trained(Encoder):
    """An encoder that was fine-tuned, and features in memory, for as long as it lives."""

    def __init__(
        self, model: torch.nn.Module, tokenizer: Any, task: Task, batch_size: int, precision: Precision
    ) -> None:
        super().__init__(task, batch_size, precision)
        self._model, self._tokenizer, self._store = model, tokenizer, Features()

    @property
    def model(self) -> torch.nn.Module:
        """The given one."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The given one."""
        return self._tokenizer

    @property
    def store(self) -> Features:
        """In memory."""
        return self._store


def batches_by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Positions in batches of at most `size`, longest first, so that padding is least and memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def counts_to_offsets(counts: Sequence[int]) -> Tensor:
    """int64[n + 1]: where each of n segments of these lengths begins, and the end of the last."""
    return torch.tensor([0, *itertools.accumulate(counts)])


def in_order(parts: Sequence[tuple[list[int], Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows of batches, given as (positions, rows, offsets), in the order of the positions."""
    positions = torch.tensor([at for members, _, _ in parts for at in members])
    lengths = torch.cat([offsets.diff() for _, _, offsets in parts])
    rows, offsets = take_rows(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), torch.argsort(positions))
    return torch.cat([values for _, values, _ in parts])[rows], offsets
