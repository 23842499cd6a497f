"""The config of a run: a YAML file, every key of which is also a `--dotted.key value` of the command line.

Checked whole before torch loads, so that a mistake is told at once.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from nlp_al.annotation import make_annotator
from nlp_al.errors import UserError
from nlp_al.strategies import make_strategy, strategy_class
from nlp_al.tasks import make_task, task_class
from nlp_al.values import build, convert, parse_yaml, suggest

TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": 5e-5,
    "num_train_epochs": 10.0,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
    "logging_strategy": "no",
    "disable_tqdm": True,
}
"""Where we differ from TrainingArguments: few labels want many epochs, and a round prints one line, not a log."""


def _about(text: str, default: Any = None, factory: Any = None) -> Any:
    if factory is not None:
        return field(default_factory=factory, metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Dataset:
    """Where the text is. `arguments` go to `datasets.load_dataset` as they are; `columns` says which column is what."""

    path: str
    columns: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A query strategy; `keep` is how many examples it hands on to the next stage, None in the last."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    keep: int | None = None


@dataclass(frozen=True)
class Loop:
    """How much is asked, and when."""

    initial: int = _about("size of the initial set", 50)
    batch: int = _about("size of each query batch after it", 25)
    rounds: int = _about("number of batches after the initial set", 10)
    unit: Literal["records", "words"] = _about("what initial, batch and stop.cost count", "records")
    seed: int = _about("seed of everything random in the run", 0)
    holdout: float = _about("share of each batch drawn at random and never trained on, for an unbiased score", 0.0)

    def __post_init__(self) -> None:
        for name, least in (("initial", 0), ("batch", 1), ("rounds", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0.0 <= self.holdout < 1.0:
            raise ValueError(f"holdout is {self.holdout}; it must be at least 0 and below 1.")


@dataclass(frozen=True)
class Stop:
    """When to end before the last round."""

    cost: float | None = _about("the most that may be asked, in loop.unit; null: no limit")
    rule: None = _about("reserved for stopping rules; must be null")


@dataclass(frozen=True)
class Training:
    """How the model is fitted. Every other key of this section is one of transformers.TrainingArguments."""

    mode: Literal["full", "frozen"] = _about("full: fine-tune all weights each round; frozen: fit a head only", "full")
    final: Literal["full", "none"] = _about("what is fitted on all labels at the end of a frozen run", "full")
    init: Literal["pretrained", "last"] = _about("weights that each round starts from, in full mode", "pretrained")
    min_steps: int = _about("floor on gradient steps, so that few labels converge too; 0: none", 100)
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotator:
    """Who answers."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """All that a run depends on."""

    task: str = _about("text-classification or token-classification", "")
    task_options: dict[str, Any] = _about("options of the task", factory=dict)
    model: str = _about("Hub id, local folder, or pkg:module/path for weights that an installed package ships", "")
    labels: dict[str, str] | None = _about("the labels: a list, or name: guideline; left out: read off the train split")
    dataset: Dataset = _about("what datasets.load_dataset takes, and `columns`", Dataset(""))
    initial: Stage = _about("strategy of the initial set", Stage("random"))
    strategy: tuple[Stage, ...] = _about("query strategy: a name, {name: ...}, or stages", (Stage("margin"),))
    loop: Loop = _about("", Loop())
    stop: Stop = _about("", Stop())
    training: Training = _about("", Training(arguments=TRAINING_DEFAULTS))
    annotator: Annotator = _about("oracle (gold labels of the train split) or jsonl (files)", Annotator("oracle"))
    run_dir: str = _about("where the run is kept, and goes on when the command is given again", "")

    @property
    def strategy_name(self) -> str:
        """The stages' names, joined by +."""
        return "+".join(stage.name for stage in self.strategy)


def read_config(values: dict[str, Any], base: Path) -> Config:
    """A checked config out of plain values; relative data files start at `base`.

    Raises:
        UserError: one sentence that names the key and what would be right.
    """
    known = {f.name for f in fields(Config)}
    for name in values:
        if name not in known:
            raise UserError(f"Unknown key {str(name)!r}: {suggest(str(name), known)}.")
    for name in ("task", "model", "dataset"):
        if not values.get(name):
            raise UserError(f"The config lacks {name!r}: give it in the file or as --{name}.")
    plain = {
        name: convert(str if name != "task_options" else dict, values[name], name)
        for name in ("task", "model", "run_dir", "task_options")
        if values.get(name) is not None
    }
    sections: dict[str, Any] = {
        "labels": _labels(values.get("labels")),
        "dataset": _dataset(values["dataset"], base),
        "initial": _stages(values.get("initial", "random"), "initial")[0],
        "strategy": _stages(values.get("strategy", "margin"), "strategy"),
        "loop": build(Loop, values.get("loop"), "loop"),
        "stop": build(Stop, values.get("stop"), "stop"),
        "training": _training(values.get("training")),
        "annotator": Annotator(*_named(values.get("annotator", "oracle"), "annotator")),
    }
    config = Config(**{**plain, **sections})
    if config.model.startswith((".", "~")):
        config = replace(config, model=str((base / Path(config.model).expanduser()).resolve()))
    if not config.run_dir:
        config = replace(config, run_dir=f"runs/{config.task}-{config.strategy_name}-{config.loop.seed}")
    config = replace(config, task_options=asdict(make_task(config.task, config.task_options).options))
    _check_names(config)
    return config


def _check_names(config: Config) -> None:
    """Every name in the config exists and takes the parameters it is given."""
    try:
        shape = task_class(config.task).shape
        for stage in (config.initial, *config.strategy):
            make_strategy(stage.name, **stage.parameters)
            if shape not in strategy_class(stage.name).shapes:
                raise ValueError(f"Strategy {stage.name} does not serve the task {config.task}.")
        make_annotator(config.annotator.name, config.annotator.parameters)
    except ValueError as error:
        raise UserError(str(error)) from error
    if make_strategy(config.initial.name, **config.initial.parameters).needs_model:
        raise UserError(
            f"initial.strategy is {config.initial.name}, which needs a fitted model; before any label take random, "
            "typiclust or coreset."
        )
    roles = task_class(config.task).columns
    for role, column in config.dataset.columns.items():
        if role not in {"id", *roles}:
            raise UserError(f"Unknown key 'dataset.columns.{role}': {suggest(role, {'id', *roles})}.")
        if not isinstance(column, str):
            raise UserError(f"dataset.columns.{role} is {column!r}; it must be the name of a column.")


def _labels(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    pairs = (
        value.items()
        if isinstance(value, dict)
        else [(name, "") for name in value]
        if isinstance(value, list)
        else None
    )
    if not pairs:
        raise UserError(f"labels is {value!r}; it must be a list of names, or names with guidelines.")
    names = [name for name, _ in pairs]
    for name in names:
        if not isinstance(name, (str, int)) or isinstance(name, bool):
            raise UserError(f"labels holds {name!r}; a label must be text: put it in quotes.")
    if len({str(name) for name in names}) < len(names):
        raise UserError("labels names the same label twice.")
    return {str(name): str(guideline or "") for name, guideline in pairs}


def _dataset(value: Any, base: Path) -> Dataset:
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        raise UserError("dataset must be a mapping with 'path': a Hub id, or csv, json, parquet, text with data_files.")
    columns = convert(dict, value.get("columns") or {}, "dataset.columns")
    arguments = {name: item for name, item in value.items() if name not in ("path", "columns")}
    if "streaming" in arguments:
        raise UserError("dataset.streaming is not taken: a pool has to be known whole.")
    split = arguments.get("split", {})
    if (
        not isinstance(split, dict)
        or not set(split) <= set(SPLITS)
        or not all(isinstance(s, str) for s in split.values())
    ):
        raise UserError(
            f"dataset.split is {split!r}; it must map {', '.join(SPLITS)} to splits of the data set, "
            "such as {train: 'train[:80%]', test: 'train[80%:]'}."
        )
    if "data_files" in arguments:
        arguments["data_files"] = _resolve(arguments["data_files"], base)
    return Dataset(value["path"], columns, arguments)


def _resolve(files: Any, base: Path) -> Any:
    """Paths as absolute ones; addresses (pkg:, https:, hf:) as they are."""
    if isinstance(files, dict):
        return {name: _resolve(item, base) for name, item in files.items()}
    if isinstance(files, list):
        return [_resolve(item, base) for item in files]
    if not isinstance(files, str):
        raise UserError(f"dataset.data_files holds {files!r}; it must hold paths.")
    return files if "://" in files or files.startswith("pkg:") else str((base / Path(files).expanduser()).resolve())


def _named(value: Any, key: str) -> tuple[str, dict[str, Any]]:
    """(name, parameters) of a bare name or of a mapping with `name` (under `initial`: `strategy`)."""
    if isinstance(value, str):
        return value, {}
    title = "strategy" if key == "initial" else "name"
    if not isinstance(value, dict) or not isinstance(value.get(title), str):
        raise UserError(f"{key} is {value!r}; it must be a name or a mapping with {title!r}.")
    return value[title], {str(k): v for k, v in value.items() if k != title}


def _stages(value: Any, key: str) -> tuple[Stage, ...]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise UserError(f"{key} is an empty list; it must name at least one strategy.")
    stages = []
    for at, item in enumerate(items):
        name, parameters = _named(item, key)
        keep = parameters.pop("keep", None)
        last = at == len(items) - 1
        if last and keep is not None:
            raise UserError(f"{key}: the last stage, {name}, takes no 'keep': it fills the batch.")
        if not last and (type(keep) is not int or keep < 1):
            raise UserError(f"{key}: stage {name} needs 'keep', the number of examples it hands on.")
        stages.append(Stage(name, parameters, keep))
    return tuple(stages)


SPLITS = ("train", "validation", "test")
OURS = ("output_dir", "seed", "data_seed", "run_name", "project", "resume_from_checkpoint", "load_best_model_at_end")
OURS_PREFIXES = ("save_", "hub_", "push_to_", "trackio_", "do_", "eval_s", "eval_o", "eval_delay", "logging_dir")


def _training(value: Any) -> Training:
    values = convert(dict, value or {}, "training")
    own = {f.name for f in fields(Training)} - {"arguments"}
    known = training_arguments()
    arguments = dict(TRAINING_DEFAULTS)
    for name, item in values.items():
        if name in own:
            continue
        if name in OURS or str(name).startswith(OURS_PREFIXES):
            raise UserError(f"training.{name} is set by the run itself (run_dir and loop.seed decide); leave it out.")
        if name not in known:
            raise UserError(f"Unknown key 'training.{name}': {_suggest_argument(str(name), own | set(known))}.")
        arguments[name] = _argument(known[name], item, f"training.{name}")
    made = build(Training, {name: item for name, item in values.items() if name in own}, "training")
    if made.min_steps < 0:
        raise UserError(f"training.min_steps is {made.min_steps}; it must be at least 0.")
    return replace(made, arguments=arguments)


def _suggest_argument(name: str, known: set[str]) -> str:
    hint = suggest(name, known).split(" (")[0]
    return hint if hint.startswith("did you mean") else "it is none of ours and none of transformers.TrainingArguments"


@cache
def training_arguments() -> dict[str, str]:
    """Names and annotations of transformers.TrainingArguments, read off its source: importing it would load torch."""
    found = importlib.util.find_spec("transformers")
    assert found is not None
    assert found.submodule_search_locations is not None
    source = Path(found.submodule_search_locations[0], "training_args.py").read_text(encoding="utf-8")
    body = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "TrainingArguments").body
    return {
        n.target.id: ast.unparse(n.annotation)
        for n in body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }


def _argument(annotation: str, value: Any, key: str) -> Any:
    plain = {"int": int, "float": float, "bool": bool, "str": str, "None": None}
    names = [part.strip() for part in annotation.split("|")]
    if not all(name in plain for name in names):
        return value
    wanted: Any = plain[names[0]]
    for name in names[1:]:
        wanted = wanted | plain[name]
    return convert(wanted, value, key)


def as_values(config: Config) -> dict[str, Any]:
    """The config as plain values, the form of the YAML file, defaults included; `read_config` takes it back."""

    def named(stage: Stage, title: str = "name") -> dict[str, Any]:
        return {title: stage.name, **stage.parameters, **({"keep": stage.keep} if stage.keep else {})}

    stages = [named(stage) for stage in config.strategy]
    training = {f.name: getattr(config.training, f.name) for f in fields(Training) if f.name != "arguments"}
    return {
        "task": config.task,
        "task_options": config.task_options,
        "model": config.model,
        "labels": config.labels,
        "dataset": {"path": config.dataset.path, **config.dataset.arguments, "columns": config.dataset.columns},
        "initial": named(config.initial, "strategy"),
        "strategy": stages[0] if len(stages) == 1 else stages,
        "loop": {f.name: getattr(config.loop, f.name) for f in fields(Loop)},
        "stop": {f.name: getattr(config.stop, f.name) for f in fields(Stop)},
        "training": {**training, **config.training.arguments},
        "annotator": {"name": config.annotator.name, **config.annotator.parameters},
        "run_dir": config.run_dir,
    }


def parse_arguments(argv: Sequence[str], about: str = "", **preset: Any) -> list[Config]:
    """The configs that a command line asks for: one, or with `--sweep.KEY [values]` one for each combination.

    argv: `--config FILE` and `--dotted.key value` pairs, values written as in YAML; later ones win over the file.
    preset: keys that the calling script fixes, e.g. task.
    `--help` prints and exits.
    """
    from nlp_al.command_line import help_text, merged, sweep_of

    if "-h" in argv or "--help" in argv:
        print(help_text(about))
        sys.exit(0)
    file, overrides, sweep = sweep_of(argv)
    base, values = Path.cwd(), {}
    if file is not None:
        path = Path(file)
        if not path.is_file():
            raise UserError(f"--config names {file}, which is no file.")
        loaded = parse_yaml(path.read_text(encoding="utf-8"), file)
        values, base = convert(dict, loaded or {}, f"{file}:"), path.resolve().parent
    for key, item in preset.items():
        if values.setdefault(key, item) != item:
            raise UserError(f"{key} is {values[key]!r}; this script serves {item!r}.")
    here = {key for key, _ in overrides if key.startswith("dataset.data_files")}
    if here:
        overrides = [(k, _resolve(v, Path.cwd()) if k in here else v) for k, v in overrides]
    return [read_config(merged(values, [*overrides, *chosen]), base) for chosen in sweep]
