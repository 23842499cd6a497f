"""The config of a run: a YAML file, every key of which is also a `--dotted.key value` of the command line.

Checked whole before torch loads, so that a mistake is told at once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from nlp_al.annotation import annotator_class, make_annotator
from nlp_al.errors import UserError
from nlp_al.samplers import SAMPLERS, make_sampler, usual_sampler
from nlp_al.source import Dataset, check_weights, home, read_dataset, rooted
from nlp_al.stopping import named as named_rules
from nlp_al.stopping import no_scores, read_rule
from nlp_al.strategies import STRATEGIES, Strategy, strategy_class
from nlp_al.tasks import make_task
from nlp_al.training.arguments import TRAINING_DEFAULTS, checked
from nlp_al.values import about, build, convert, read_yaml, shown, suggest


@dataclass(frozen=True)
class Stage:
    """A query strategy; `keep` is how many examples it hands on to the next stage, None in the last."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    keep: int | None = None


@dataclass(frozen=True)
class Loop:
    """How much is asked, and when."""

    initial: int = about("size of the initial set", 50)
    batch: int = about("size of each query batch after it", 25)
    rounds: int = about("number of batches after the initial set", 10)
    unit: Literal["records", "words"] = about("records or words: what initial, batch and stop.cost count", "records")
    seed: int = about("seed of everything random in the run", 0)
    holdout: float = about("share of each batch drawn at random and never trained on, for an unbiased score", 0.0)
    aggregation: Literal["majority", "dawid_skene"] = about(
        "majority or dawid_skene: one label out of several people's; the latter weighs each by estimated error rates",
        "majority",
    )

    def __post_init__(self) -> None:
        for name, least in (("initial", 0), ("batch", 1), ("rounds", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0.0 <= self.holdout < 1.0:
            raise ValueError(f"holdout is {self.holdout}; it must be at least 0 and below 1.")


@dataclass(frozen=True)
class Stop:
    """When to end before the last round."""

    cost: float | None = about("the most that may be asked, in loop.unit; null: no limit")
    rule: Any = about(
        "a stopping rule: a name, {name: ..., parameters, below}, or several, {any: [...]} or {all: [...]}; null: none"
    )
    size: int = about("examples of the stop set, if a rule needs one: never asked, at most a tenth of the pool", 2000)
    log: bool = about("observe in a simulation what all rules read, for the table of nlp-al report", False)

    def __post_init__(self) -> None:
        if self.cost is not None and self.cost <= 0:
            raise ValueError(f"cost is {self.cost}; it must be more than 0, or null for no limit.")
        if self.size < 1:
            raise ValueError(f"size is {self.size}; it must be at least 1.")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters, for mode lora and final lora."""

    r: int = about("rank of the adapters", 16)
    alpha: int = about("their scale is alpha / r", 32)
    dropout: float = about("dropout before them", 0.05)
    target_modules: list[str] | None = about("last parts of the layers' names; null: every linear layer of the encoder")

    def __post_init__(self) -> None:
        for name in ("r", "alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; it must be at least 0 and below 1.")


@dataclass(frozen=True)
class Training:
    """How the model is fitted. Every other key of this section is one of transformers.TrainingArguments."""

    mode: Literal["full", "lora", "frozen"] = about(
        "full: fine-tune all weights each round, lora: adapters, or frozen: fit a head only", "full"
    )
    final: Literal["full", "lora", "none"] = about(
        "full, lora or none: what is fitted on all labels at the end of a frozen run", "full"
    )
    init: Literal["pretrained", "last"] = about(
        "pretrained or last: weights that each round starts from, in full and lora mode", "pretrained"
    )
    lora: Lora = about("the adapters", Lora())
    float32_matmul: Literal["highest", "high", "medium"] = about(
        "highest, high or medium: how float32 matrices are multiplied in fine-tuning; high allows TF32 on a GPU, "
        "medium also bfloat16 where a CPU multiplies in it (AMX), and wider instructions (AVX-512) elsewhere",
        "highest",
    )
    attn_implementation: str | None = about(
        "how transformers computes attention in fine-tuning: eager, sdpa, flash_attention_2, ...; null: its own "
        "choice; on a CPU eager may be faster for short texts"
    )
    calibrate: bool = about(
        "whether strategies see probs at the temperature that fits the validation split best; where there is none, the "
        "labelled set, each fifth of it judged by a model of the rest, which are five fits more a round",
        False,
    )
    min_steps: int = about("floor on gradient steps, so that few labels converge too; 0: none", 100)
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.min_steps < 0:
            raise ValueError(f"min_steps is {self.min_steps}; it must be at least 0.")

    @property
    def adapts(self) -> bool:
        """Whether fine-tuning trains adapters."""
        return self.mode == "lora" or (self.mode == "frozen" and self.final == "lora")


@dataclass(frozen=True)
class Annotator:
    """Who answers."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sampler:
    """Where a committee comes from."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PushToHub:
    """What goes to the Hugging Face Hub at the end of a run."""

    model: str | None = about("repository of the final model, as me/sms-spam; null: it is not pushed")
    dataset: str | None = about("repository of the labelled set; null: it is not pushed")
    private: bool = about("whether both must be private; false: what is made anew is public", True)

    def __post_init__(self) -> None:
        for kind in ("model", "dataset"):
            name = getattr(self, kind)
            if name is not None and not _is_repository(name):
                raise ValueError(f"{kind} is {shown(name)}; it must be the name of a repository, as me/sms-spam.")


def _is_repository(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # which it has no list of exports for

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


@dataclass(frozen=True)
class Config:
    """All that a run depends on."""

    task: str = about("the kind of task; each recipe fills in its own", "")
    task_options: dict[str, Any] = about("options of the task, below", factory=dict)
    model: str = about("Hub id, local folder, or pkg:module/path for weights that an installed package ships", "")
    labels: dict[str, str] | None = about(
        "the labels: a list, or {name: guideline}; left out: read off the train split"
    )
    dataset: Dataset = about("what datasets.load_dataset takes, and columns", Dataset())
    initial: Stage = about("how the initial set is chosen: a strategy, or {strategy: ..., parameters}", Stage("random"))
    strategy: tuple[Stage, ...] = about(
        "query strategy: a name, {name: ..., parameters}, or a list of stages, all but the last with keep: how many "
        "examples it hands on, as 250 or, in batches, 10x",
        (Stage("margin"),),
    )
    sampler: Sampler = about(
        "where the members of a committee come from, for strategies that compare some: a name, or {name: ..., "
        "parameters, below}; left out: the one that the strategy asks for, else mc_dropout, or heads in frozen mode",
        Sampler(""),
    )
    loop: Loop = about("", Loop())
    stop: Stop = about("", Stop())
    training: Training = about("", Training(arguments=TRAINING_DEFAULTS))
    annotator: Annotator = about("who answers: a name, or {name: ..., parameters, below}", Annotator("oracle"))
    push_to_hub: PushToHub = about("", PushToHub())
    run_dir: str = about(
        "where the run is kept, and goes on when the command is given again; left out: runs/TASK-STRATEGY-SEED", ""
    )

    @property
    def strategy_name(self) -> str:
        """The stages' names, joined by +."""
        return "+".join(stage.name for stage in self.strategy)


def read_config(values: dict[str, Any], base: Path) -> Config:
    """A checked config out of plain values; relative paths of data and weights start at `base`.

    Raises:
        UserError: one sentence that names the key and what would be right.
    """
    known = {f.name for f in fields(Config)}
    for name in values:
        if name not in known:
            raise UserError(f"Unknown key {str(name)!r}: {suggest(str(name), known)}.")
    values = {name: value for name, value in rooted("", values, base).items() if value is not None}
    for name in ("task", "model", "dataset"):
        if not values.get(name):
            raise UserError(f"The config lacks {name!r}: give it in the file or as --{name}.")
    plain = {name: convert(str, values[name], name) for name in ("task", "model", "run_dir") if values.get(name)}
    check_weights(plain["model"])
    task = make_task(plain["task"], values.get("task_options", {}))
    if not task.named and values.get("labels") is not None:
        raise UserError(f"labels is given, but {task.name} has no fixed labels; leave it out.")
    training = _training(values.get("training", {}))
    loop = build(Loop, values.get("loop"), "loop")
    stages = _stages(values.get("strategy", NAMES["strategy"]), loop)
    config = Config(
        **plain,
        task_options=asdict(task.options),
        labels=_labels(values.get("labels"), task.fewest),
        dataset=read_dataset(values["dataset"], {"id", *task.columns}, task.several),
        initial=_stage(values.get("initial", NAMES["initial"]), "initial"),
        strategy=stages,
        loop=loop,
        stop=_stop(values.get("stop")),
        training=training,
        sampler=_sampler(values.get("sampler"), _wanted_sampler(stages) or usual_sampler(training.mode)),
        annotator=Annotator(*_named(values.get("annotator", NAMES["annotator"]), "annotator")),
        push_to_hub=build(PushToHub, values.get("push_to_hub"), "push_to_hub"),
    )
    _check_strategies(config)
    _check_sampler(config)
    _check_stop(config)
    if config.loop.aggregation == "dawid_skene" and not task.named:
        raise UserError(
            f"loop.aggregation is dawid_skene, which needs labels that mean the same for every example; those of "
            f"{task.name} are positions. Take majority."
        )
    annotator = make_annotator(config.annotator.name, config.annotator.parameters)
    if config.push_to_hub.dataset is not None and annotator.hides_gold:
        raise UserError(
            f"push_to_hub.dataset is given, but the annotator is {config.annotator.name}: a simulation labels nothing "
            "that the data do not bring."
        )
    run_dir = config.run_dir or f"runs/{config.task}-{config.strategy_name}-{config.loop.seed}"
    return replace(config, run_dir=str(home(run_dir)))


def _check_strategies(config: Config) -> None:
    """Each strategy serves the task, the first one needs no model, and no stage starves the next."""
    shape = make_task(config.task, config.task_options).shape
    for key, stage in (("initial", config.initial), *_keyed(config.strategy)):
        strategy = _strategy(key, stage)
        if shape not in strategy.shapes:
            raise UserError(f"{key} is {stage.name!r}, which does not serve the task {config.task}.")
        if key == "initial" and strategy.needs_model:
            cold = [name for name, kind in STRATEGIES.items() if not _strategy(key, Stage(name)).needs_model]
            raise UserError(
                f"initial.strategy is {stage.name!r}, which needs a fitted model; before any label take one of: "
                f"{', '.join(cold)}."
            )
        if strategy.relabels:
            _check_again(config, key, stage)
        if stage.keep is not None and config.loop.unit == "records" and stage.keep < config.loop.batch:
            raise UserError(
                f"{key}.keep is {stage.keep}; it must be at least loop.batch ({config.loop.batch}), "
                "or the batch can't be filled."
            )


def _check_again(config: Config, key: str, stage: Stage) -> None:
    """What asks again about labelled examples hands none on, and has somebody else to ask."""
    if stage.keep is not None:
        raise UserError(f"{key} is {stage.name!r}, which asks about labelled examples too and must be the last stage.")
    annotator = config.annotator
    if make_annotator(annotator.name, annotator.parameters).in_turn < 2:
        raise UserError(
            f"{key} is {stage.name!r}, which asks somebody else about labelled examples, and the annotator is "
            f"{annotator.name} with nobody else to ask: take oracle or jsonl, with annotator.annotators at least 2 "
            "(the page of argilla asks about a record once)."
        )


def _check_sampler(config: Config) -> None:
    """It makes sense with this way of training."""
    sampler, training = config.sampler, config.training
    for key, stage in _keyed(config.strategy):
        wanted = _strategy(key, stage).sampler
        if wanted and wanted != sampler.name:
            raise UserError(
                f"sampler is {sampler.name!r}, but strategy {stage.name} is about the members of {wanted!r}; take it, "
                "or leave sampler out."
            )
    why = make_sampler(sampler.name, sampler.parameters).refusal(training)
    if why is not None:
        others = [name for name, kind in SAMPLERS.items() if kind().refusal(training) is None]
        if asking := [stage.name for key, stage in _keyed(config.strategy) if _strategy(key, stage).sampler]:
            raise UserError(f"strategy {asking[0]} needs the sampler {sampler.name!r}, but {why}.")
        listed = " or ".join(name for name in others if name != sampler.name)
        raise UserError(f"sampler is {sampler.name!r}, but {why}; take {listed}.")


def _stop(value: Any) -> Stop:
    made = build(Stop, value, "stop")
    if made.rule is None:
        return made
    read_rule(made.rule)
    return replace(made, rule=named_rules(made.rule))


def _check_stop(config: Config) -> None:
    """What the rule reads can be had, as far as the config tells."""
    if config.stop.log and not annotator_class(config.annotator.name).hides_gold:
        raise UserError(
            f"stop.log is true, but the annotator is {config.annotator.name}; where each rule would have stopped is "
            "seen in a simulation, under the annotator oracle."
        )
    metrics = make_task(config.task, config.task_options).metrics
    for rule in read_rule(config.stop.rule).inside() if config.stop.rule is not None else ():
        if "scores" in rule.reads and not config.loop.holdout and _has_validation(config.dataset) is False:
            raise UserError(no_scores(rule.name))
        if "abstained" in rule.reads and not any(_strategy("strategy", stage).filters for stage in config.strategy):
            known = ", ".join(name for name, kind in STRATEGIES.items() if kind.filters)
            raise UserError(
                f"stop.rule is {rule.name}, which reads what a filter leaves out, and strategy names none; there are: "
                f"{known}."
            )
        metric = getattr(rule, "metric", None)
        if metric is not None and not metric.startswith(metrics):
            raise UserError(f"stop.rule: there is no metric {metric!r}: {suggest(metric, metrics)}.")


def _has_validation(dataset: Dataset) -> bool | None:
    """Whether there is a validation split; None where only loading tells."""
    parts = dataset.arguments.get("split") or dataset.arguments.get("data_files")
    if isinstance(parts, dict):
        return "validation" in parts
    return False if parts else None


def _keyed(stages: tuple[Stage, ...]) -> list[tuple[str, Stage]]:
    """Each stage of a strategy with its key in the config."""
    return [("strategy" if len(stages) == 1 else f"strategy[{at}]", stage) for at, stage in enumerate(stages)]


def _strategy(key: str, stage: Stage) -> Strategy:
    try:
        kind = strategy_class(stage.name)
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error
    return build(kind, stage.parameters, key)


def _labels(value: Any, fewest: int) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, (dict, list)) or not value:
        raise UserError(f"labels is {shown(value)}; it must be a list of names, or names with guidelines.")
    guidelines = value if isinstance(value, dict) else dict.fromkeys(map(str, value), "")
    for name in value:
        if type(name) not in (str, int) or name == "":
            raise UserError(f"labels holds {shown(name)}; a label must be text: put it in quotes.")
    if len({str(name) for name in value}) < len(value):
        raise UserError("labels names the same label twice.")
    if len(value) < fewest:
        raise UserError(f"labels names {shown(*value)} alone; a model needs at least two labels.")
    return {
        str(name): convert(str, "" if text is None else text, f"labels.{name}") for name, text in guidelines.items()
    }


LORA_LEARNING_RATE = 1e-3
"""Adapters start from zero and want a far higher rate than whole weights."""

NAMES = {"initial": "random", "strategy": "margin", "annotator": "oracle", "sampler": None}
"""The names that stand where a section gives none; that of a sampler goes by the way of training."""


def _named(value: Any, key: str) -> tuple[str, dict[str, Any]]:
    """(name, parameters) of a bare name or of a mapping with `name` (under `initial`: `strategy`)."""
    if isinstance(value, str):
        return value, {}
    title = "strategy" if key == "initial" else "name"
    if not isinstance(value, dict) or not isinstance(value.get(title), str):
        raise UserError(f"{key} is {shown(value)}; it must be a name or a mapping with {title!r}.")
    return value[title], {str(k): v for k, v in value.items() if k != title}


def _sampler(value: Any, usual: str) -> Sampler:
    """The one that is named, or the usual one, whose parameters may be given without its name."""
    if value is None:
        return Sampler(usual)
    if isinstance(value, dict) and value.get("name") is None:
        value = {**value, "name": usual}
    return Sampler(*_named(value, "sampler"))


def _wanted_sampler(stages: tuple[Stage, ...]) -> str:
    """The sampler that the first of the strategies asks for that asks for any; empty where none does."""
    return next(filter(None, (_strategy(key, stage).sampler for key, stage in _keyed(stages))), "")


def _stages(value: Any, loop: Loop) -> tuple[Stage, ...]:
    if not isinstance(value, list):
        return (_stage(value, "strategy"),)
    if not value:
        raise UserError("strategy is an empty list; it must name at least one strategy.")
    *first, last = value
    keys = [f"strategy[{at}]" for at in range(len(value))] if first else ["strategy"]
    stages = [_stage(item, key, loop) for item, key in zip(first, keys, strict=False)]
    return (*stages, _stage(last, keys[-1]))


def _stage(value: Any, key: str, loop: Loop | None = None) -> Stage:
    """A stage; loop: in one that has another behind it."""
    name, parameters = _named(value, key)
    keep = parameters.pop("keep", None)
    if loop is None and keep is not None:
        raise UserError(f"{key}: {name} takes no 'keep'; only a stage with another behind it hands examples on.")
    if loop is not None and isinstance(keep, str) and (batches := re.fullmatch(r"(\d+)x", keep)):
        if loop.unit == "words":
            raise UserError(f"{key}.keep is {keep!r}, but a batch counts words; give a number of examples.")
        keep = int(batches[1]) * loop.batch
    if loop is not None and (type(keep) is not int or keep < 1):
        raise UserError(
            f"{key}: {name} needs 'keep', the number of examples that this stage hands on, as 250 or, in batches, 10x."
        )
    return Stage(name, parameters, keep)


def _training(value: Any) -> Training:
    values = convert(dict, value, "training")
    own = {f.name for f in fields(Training)} - {"arguments"}
    made = build(Training, {name: item for name, item in values.items() if name in own}, "training")
    others = {name: item for name, item in values.items() if name not in own}
    if made.adapts:
        others = {"learning_rate": LORA_LEARNING_RATE, **others}
    return replace(made, arguments=checked(others, own))


def _told_freely(annotator: Annotator) -> dict[str, Any]:
    """Its parameters without those that nobody may read."""
    kind: Any = annotator_class(annotator.name)
    secret = {f.name for f in fields(kind) if f.metadata.get("secret")}
    return {name: value for name, value in annotator.parameters.items() if name not in secret}


def as_values(config: Config) -> dict[str, Any]:
    """The config as plain values, the form of the YAML file, defaults included; `read_config` takes it back."""

    def named(stage: Stage, title: str = "name") -> dict[str, Any]:
        return {title: stage.name, **stage.parameters, **({"keep": stage.keep} if stage.keep else {})}

    stages = [named(stage) for stage in config.strategy]
    training = {name: value for name, value in asdict(config.training).items() if name != "arguments"}
    return {
        "task": config.task,
        "task_options": config.task_options,
        "model": config.model,
        "labels": config.labels,
        "dataset": {"path": config.dataset.path, **config.dataset.arguments, "columns": config.dataset.columns},
        "initial": named(config.initial, "strategy"),
        "strategy": stages[0] if len(stages) == 1 else stages,
        "sampler": {"name": config.sampler.name, **config.sampler.parameters},
        "loop": {f.name: getattr(config.loop, f.name) for f in fields(Loop)},
        "stop": {f.name: getattr(config.stop, f.name) for f in fields(Stop)},
        "training": {**training, **config.training.arguments},
        "annotator": {"name": config.annotator.name, **_told_freely(config.annotator)},
        "push_to_hub": {f.name: getattr(config.push_to_hub, f.name) for f in fields(PushToHub)},
        "run_dir": config.run_dir,
    }


def parse_arguments(argv: Sequence[str], about: str = "", **preset: Any) -> list[Config]:
    """The configs that a command line asks for: one, or with `--sweep.KEY values` one for each combination.

    argv: `--config FILE` and `--dotted.key value` pairs, values written as in YAML; later ones win over the file.
    preset: keys that the calling script fixes, e.g. task.
    `--help` prints and exits.
    """
    from nlp_al.command_line import help_text, merged, read_arguments, tag

    if "-h" in argv or "--help" in argv:
        print(help_text(about, preset.get("task")))
        sys.exit(0)
    file, overrides, sweep = read_arguments(argv)
    base, values = Path.cwd(), {}
    if file is not None:
        if not Path(file).is_file():
            raise UserError(f"--config names {file}, which is no file.")
        base, values = Path(file).resolve().parent, read_yaml(Path(file))
    configs = []
    for chosen in sweep:
        given = [(key, rooted(key, value, Path.cwd())) for key, value in (*overrides, *chosen)]
        whole = merged(values, given)
        for key, item in preset.items():
            if whole.get(key) not in (None, item):
                raise UserError(f"{key} is {shown(whole[key])}; this script serves {item}.")
            whole[key] = item
        if tail := tag(chosen):
            whole["run_dir"] = f"{str(whole.get('run_dir') or 'runs/sweep').rstrip('/')}-{tail}"
        configs.append(read_config(whole, base))
    if len({config.run_dir for config in configs}) < len(configs):
        raise UserError("Two runs of the sweep would share one run_dir; a --sweep must not list a value twice.")
    for kind in ("model", "dataset"):
        named = [name for config in configs if (name := getattr(config.push_to_hub, kind)) is not None]
        if len(set(named)) < len(named):
            raise UserError(f"Two runs of the sweep would be pushed to one push_to_hub.{kind}; sweep that too.")
    return configs
