"""Fine-tuning all weights on `transformers.Trainer`, and asking the result about examples."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from nlp_al.config import Training
from nlp_al.errors import UserError
from nlp_al.pool import Example
from nlp_al.processes import processes
from nlp_al.signals.features import Trained, batches_by_length, counts_to_offsets, in_order
from nlp_al.signals.live import Live
from nlp_al.signals.loading import LOAD_ERRORS, load_tokenizer, told
from nlp_al.signals.precision import Precision
from nlp_al.source import package_path
from nlp_al.tasks import READ, Piece, Rows, Task
from nlp_al.training.by_length import ByLength
from nlp_al.training.frozen import FrozenModel
from nlp_al.training.lora import merged, with_adapters
from nlp_al.training.snapshots import Snapshots
from nlp_al.training.vocabulary import used_rows

FIXED: dict[str, Any] = {
    "save_strategy": "no",  # a checkpoint holds pickles
    "report_to": "none",
    "remove_unused_columns": False,
}


TOKENISED = 1024
"""Examples that are tokenised at a time."""


class FineTuned:
    """A fine-tuned transformers model. Every process holds it."""

    sharded = True

    def __init__(self, model: nn.Module, tokenizer: Any, task: Task, training: Training) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.task = task
        self.batch_size = int(training.arguments["per_device_eval_batch_size"])
        self.device = processes().device
        self.precision = precision_of(training)
        self._seen: torch.Tensor | None = None
        last_linear(model).register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._seen = inputs[0]

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """The pieces of each example, in batches of similar length."""
        self.model.to(self.device).eval()
        inputs = [example.inputs for example in examples]
        # In parts: what the tokenizer knows of each token beside its id is large, and goes with the part.
        parts = (inputs[at : at + TOKENISED] for at in range(0, len(inputs), TOKENISED))
        encoded = [own for part in parts for own in self.task.encode(self.tokenizer, part)]
        longest = [max((len(piece["input_ids"]) for piece in own), default=0) for own in encoded]
        return encoded, batches_by_length(longest, self.batch_size)

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """A forward over at most `batch_size` pieces at a time, in the precision that it was trained in."""
        pieces = [piece for own in prepared for piece in own]
        batches = batches_by_length([len(piece["input_ids"]) for piece in pieces], self.batch_size)
        parts = [(members, *self._forward([pieces[i] for i in members])) for members in batches]
        hidden, offsets = in_order([(members, hidden, offsets) for members, hidden, _, offsets in parts])
        logits, _ = in_order([(members, logits, offsets) for members, _, logits, offsets in parts])
        return Rows(hidden, logits, offsets[counts_to_offsets([len(own) for own in prepared])])

    def _forward(self, pieces: Sequence[Piece]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hidden states, logits, and the offsets of the pieces."""
        padded = self.task.pad(self.tokenizer, pieces)
        return self._read({name: values.to(self.device) for name, values in padded.items()})

    def _read(self, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with self.precision.on(self.device):
            out = self.model(**{name: values for name, values in batch.items() if name in READ})
        assert self._seen is not None
        logits, offsets = self.task.pick_rows(out.logits, batch)
        hidden, _ = self.task.pick_rows(self._seen, batch)
        self._seen = None  # it would hold the gradients' way back
        return hidden.float().cpu(), logits.float().cpu(), offsets.cpu()

    def live(self) -> Live:
        """Itself, differentiable by all its weights."""

        def read(batch: Mapping[str, torch.Tensor], pieces: torch.Tensor, examples: Sequence[Example]) -> Rows:
            hidden, logits, offsets = self._read(batch)
            return Rows(hidden, logits, offsets[pieces])

        return Live(self.model, self.tokenizer, self.task, read, self.batch_size, self.precision)

    def rest(self) -> None:
        """Leaves the accelerator; `prepare` goes back to it."""
        self.model.to("cpu")

    def save(self, folder: Path) -> None:
        """In the form that transformers loads."""
        self.model.save_pretrained(folder)  # type: ignore[operator]
        self.tokenizer.save_pretrained(folder)


class FineTunedEncoder(FrozenModel):
    """A fine-tuned encoder that reads the units of an example apart, under the head that it was trained with."""

    def __init__(self, model: nn.Module, tokenizer: Any, task: Task, training: Training) -> None:
        size = int(training.arguments["per_device_eval_batch_size"])
        encoder = Trained(model, tokenizer, task, size, precision_of(training))
        super().__init__(encoder, task, task.trained_head(model))

    def save(self, folder: Path) -> None:
        """In the form that transformers loads."""
        self.encoder.model.save_pretrained(folder)  # type: ignore[operator]
        self.encoder.tokenizer.save_pretrained(folder)


def scorer_of(model: nn.Module, tokenizer: Any, task: Task, training: Training) -> FineTuned | FineTunedEncoder:
    """A fine-tuned model that can be asked about examples."""
    return (FineTunedEncoder if task.apart else FineTuned)(model, tokenizer, task, training)


def parts_of(model: Any) -> tuple[nn.Module, Any]:
    """The transformers model behind it, and the tokenizer."""
    known = model.encoder if isinstance(model, FineTunedEncoder) else model
    return known.model, known.tokenizer


class _Trainer(transformers.Trainer):  # type: ignore[misc]
    """Trainer with the loss of a task that has one, and batches by length or snapshots, where they are asked for."""

    def __init__(self, task: Task, snapshots: Snapshots | None, **settings: Any) -> None:
        super().__init__(**settings, callbacks=[snapshots] if snapshots is not None else None)
        self._task = task
        self._snapshots = snapshots

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **settings: Any) -> Any:
        """As Trainer's, unless the task has a loss of its own."""
        loss = self._task.loss(model, inputs)
        if loss is None:
            return super().compute_loss(model, inputs, *arguments, **settings)
        # It is a mean over this batch: Trainer divides it among the batches that it accumulates.
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = False
        return loss

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As Trainer's, unless snapshots set the learning rate."""
        if self._snapshots is None or getattr(self, "lr_scheduler", None) is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        how = (num_training_steps, self.args.get_warmup_steps(num_training_steps), self.args.learning_rate)
        rate = self._snapshots.rate
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, lambda at: rate(at, *how))
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        lengths = [self._task.length(item) for item in self.train_dataset]
        return ByLength(lengths, self.args.train_batch_size, torch.Generator().manual_seed(self.args.seed))


def precision_of(training: Training) -> Precision:
    """What a model is trained and asked in."""
    halves = {"bf16": torch.bfloat16, "fp16": torch.float16}
    half = next((dtype for name, dtype in halves.items() if training.arguments.get(name)), None)
    return Precision(half, training.float32_matmul)


def last_linear(model: nn.Module) -> nn.Linear:
    """The layer that makes the logits: the last linear one outside the encoder."""
    inside = f"{model.base_model_prefix}."
    heads = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and not name.startswith(inside)]
    return heads[-1]


def load_model(source: str, task: Task, attention: str | None = None) -> nn.Module:
    """A model with the task's head on the weights of `source`; UserError where there are none.

    attention: how transformers is to compute it (`eager`, `sdpa`, ...), None for its own choice; UserError where this
    model or machine can't.
    """
    try:
        model = task.new_model(package_path(source))
    except LOAD_ERRORS as error:
        raise told(source, error) from error
    if attention is not None:
        try:
            model.set_attn_implementation(attention)  # type: ignore[operator]
        except (ValueError, ImportError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(
                f"training.attn_implementation is {attention!r}, which can't be had here: {said}"
            ) from error
    return model


def fine_tune(
    source: str,
    task: Task,
    labelled: Sequence[tuple[Example, Any]],
    training: Training,
    seed: int,
    snapshots: Snapshots | None = None,
) -> FineTuned | FineTunedEncoder:
    """Fits a model, from the weights of `source`, on labelled examples. All processes call it together.

    All weights are trained; in mode `lora`, and where a frozen run's final fit is to be one, adapters that are merged
    at the end. snapshots: sets the learning rate, and keeps weights on the way.

    Raises:
        UserError: the model can't be loaded, or a training argument has a value that transformers refuses.
    """
    transformers.set_seed(seed)
    model = load_model(source, task, training.attn_implementation)
    tokenizer = load_tokenizer(source)
    if training.adapts:
        model = with_adapters(model, training.lora)
    items = task.items(tokenizer, [(example.inputs, label) for example, label in labelled])
    with tempfile.TemporaryDirectory() as folder:
        with _told_of_arguments():
            arguments = _arguments(training, folder, seed, len(items))
        with used_rows(model, task.token_ids(tokenizer, items), arguments.optim) as put:
            with _told_of_arguments():
                trainer = _Trainer(
                    task,
                    snapshots,
                    model=model,
                    args=arguments,
                    train_dataset=items,
                    data_collator=partial(task.collate, tokenizer),
                )
            trainer.remove_callback(transformers.PrinterCallback)
            if snapshots is not None:
                snapshots.watch(model)
            with precision_of(training).of_products():
                trainer.train()
    if snapshots is not None:
        snapshots.trained(put, training.adapts)
    if training.adapts:
        model = merged(model)
    return scorer_of(model, tokenizer, task, training)


@contextmanager
def _told_of_arguments() -> Iterator[None]:
    """A training argument that transformers refuses is the user's mistake."""
    try:
        yield
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise UserError(f"training: {' '.join(str(error).split())}") from error


def _arguments(training: Training, folder: str, seed: int, items: int) -> transformers.TrainingArguments:
    on_cpu = processes().device.type == "cpu"
    device = {"use_cpu": on_cpu, "dataloader_pin_memory": not on_cpu}
    given = {**device, **training.arguments, **FIXED, "output_dir": folder, "seed": seed}
    made = transformers.TrainingArguments(**given)
    if training.min_steps and made.max_steps <= 0:
        batch = made.train_batch_size * made.gradient_accumulation_steps * made.world_size
        planned = math.ceil(made.num_train_epochs * math.ceil(items / batch))
        if planned < training.min_steps:
            made.max_steps = training.min_steps
    return made
