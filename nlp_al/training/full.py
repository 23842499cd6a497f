"""Fine-tuning all weights on `transformers.Trainer`, and asking the result about examples."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from nlp_al.config import Training
from nlp_al.errors import UserError
from nlp_al.pool import Example
from nlp_al.processes import processes
from nlp_al.signals.features import READ, batches_by_length
from nlp_al.signals.loading import LOAD_ERRORS, load_tokenizer, told
from nlp_al.source import package_path
from nlp_al.tasks import Rows, Task

FIXED: dict[str, Any] = {
    "save_strategy": "no",  # a checkpoint holds pickles
    "report_to": "none",
    "remove_unused_columns": False,
}


class FineTuned:
    """A fine-tuned transformers model. Every process holds it."""

    sharded = True

    def __init__(self, model: nn.Module, tokenizer: Any, task: Task, training: Training) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.task = task
        self.batch_size = int(training.arguments["per_device_eval_batch_size"])
        self.device = processes().device
        self.dtype = next((t for name, t in HALVES.items() if training.arguments.get(name)), None)
        self._seen: torch.Tensor | None = None
        last_linear(model).register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._seen = inputs[0]

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """Tokenised examples, in batches of similar length."""
        self.model.to(self.device).eval()
        encodings = self.task.encode(self.tokenizer, [e.inputs for e in examples]) if examples else []
        return encodings, batches_by_length([len(e["input_ids"]) for e in encodings], self.batch_size)

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """One forward, in the precision that it was trained in."""
        batch = {name: values.to(self.device) for name, values in self.task.pad(self.tokenizer, prepared).items()}
        with torch.autocast(self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None):
            out = self.model(**{name: values for name, values in batch.items() if name in READ})
        assert self._seen is not None
        logits, offsets = self.task.pick_rows(out.logits, batch)
        hidden, _ = self.task.pick_rows(self._seen, batch)
        return Rows(hidden.float().cpu(), logits.float().cpu(), offsets)

    def save(self, folder: Path) -> None:
        """In the form that transformers loads."""
        self.model.save_pretrained(folder)  # type: ignore[operator]
        self.tokenizer.save_pretrained(folder)


HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def last_linear(model: nn.Module) -> nn.Linear:
    """The layer that makes the logits: the last linear one outside the encoder."""
    inside = f"{model.base_model_prefix}."
    heads = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and not name.startswith(inside)]
    return heads[-1]


def load_model(source: str, task: Task) -> nn.Module:
    """A model with the task's head on the weights of `source`; UserError where there are none."""
    try:
        return task.new_model(package_path(source))
    except LOAD_ERRORS as error:
        raise told(source, error) from error


def fine_tune(
    source: str, task: Task, labelled: Sequence[tuple[Example, Any]], training: Training, seed: int
) -> FineTuned:
    """Fits all weights, from those of `source`, on labelled examples. All processes call it together.

    Raises:
        UserError: the model can't be loaded, or a training argument has a value that transformers refuses.
    """
    transformers.set_seed(seed)
    model = load_model(source, task)
    tokenizer = load_tokenizer(source)
    encodings = task.encode(tokenizer, [example.inputs for example, _ in labelled])
    items = [
        {**encoding, "labels": task.targets(encoding, label)}
        for encoding, (_, label) in zip(encodings, labelled, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        with _told_of_arguments():
            arguments = _arguments(training, folder, seed, len(items))
            trainer = transformers.Trainer(
                model=model,
                args=arguments,
                train_dataset=items,
                data_collator=lambda batch: {
                    name: values for name, values in task.pad(tokenizer, batch).items() if name in (*READ, "labels")
                },
            )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        model = trainer.accelerator.unwrap_model(trainer.model)
    return FineTuned(model, tokenizer, task, training)


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
