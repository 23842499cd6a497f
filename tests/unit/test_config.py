"""The config: every mistake in it has a sentence, and what is right comes back as it was written."""

import io
import re
from dataclasses import fields
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from nlp_al.annotation import ANNOTATORS
from nlp_al.command_line import help_text
from nlp_al.config import (
    Config,
    Loop,
    Lora,
    PushToHub,
    Sampler,
    Stop,
    Training,
    as_values,
    parse_arguments,
    read_config,
)
from nlp_al.errors import UserError
from nlp_al.samplers import SAMPLERS
from nlp_al.source import Dataset
from nlp_al.stopping import STOPPING
from nlp_al.strategies import STRATEGIES
from nlp_al.tasks import TASKS

LEAST = ["--task", "text-classification", "--model", "org/weights", "--dataset.path", "org/data"]


def config(*argv: str) -> Config:
    (made,) = parse_arguments([*LEAST, *argv])
    return made


def mistake(*argv: str, **preset: str) -> str:
    with pytest.raises(UserError) as error:
        parse_arguments([*LEAST, *argv], **preset)
    told = str(error.value)
    assert "\n" not in told
    assert told.endswith(".")
    return told


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        # Names that there are not, at every level.
        (
            "--looop.batch 3",
            "Unknown key 'looop': did you mean 'loop'? (there are: annotator, dataset, initial, labels",
        ),
        (
            "--loop.bach 3",
            "Unknown key 'loop.bach': did you mean 'batch'? (there are: aggregation, batch, holdout, initial, rounds",
        ),
        ("--stop.rules x", "Unknown key 'stop.rules': did you mean 'rule'? (there are: cost, log, rule, size)."),
        (
            "--dataset.columns.txt x",
            "Unknown key 'dataset.columns.txt': did you mean 'text'? (there are: id, label, tex",
        ),
        ("--dataset.data_files.dev x", "Unknown key 'dataset.data_files.dev': there are: test, train, validation."),
        (
            "--task_options.max_lenght 3",
            "Unknown key 'task_options.max_lenght': did you mean 'max_length'? (there are:",
        ),
        ("--training.learning_rat 1", "Unknown key 'training.learning_rat': the closest name is 'learning_rate'."),
        ("--training.min_step 1", "Unknown key 'training.min_step': the closest name is 'min_steps'."),
        (
            "--training.zzz 1",
            "Unknown key 'training.zzz': it is none of ours and none of transformers.TrainingArgument",
        ),
        (
            "--annotator.nois 1",
            "Unknown key 'annotator.nois': did you mean 'noise'? (there are: anchoring, annotators, control, noise, "
            "noise_kind, refusals, seed).",
        ),
        ("--strategy.ag max", "Unknown key 'strategy.ag': did you mean 'agg'? (there are: agg)."),
        ("--initial.agg max", "Unknown key 'initial.agg': there are none."),
        ("--task text-clasification", "There is no task 'text-clasification': did you mean 'text-classification'? ("),
        ("--strategy margn", "strategy: There is no strategy 'margn'; the closest name is 'margin'."),
        ("--initial randm", "initial: There is no strategy 'randm'; the closest name is 'random'."),
        (
            "--annotator orakle",
            "There is no annotator 'orakle': did you mean 'oracle'? (there are: argilla, jsonl, oracle).",
        ),
        # Values of another type.
        ("--loop.batch many", "loop.batch is 'many'; it must be a whole number."),
        ("--loop.batch 2.0", "loop.batch is 2.0; it must be a whole number."),
        ("--loop.holdout x", "loop.holdout is 'x'; it must be a number."),
        ("--loop.unit tokens", "loop.unit is 'tokens'; it must be records or words."),
        ("--loop.aggregation mean", "loop.aggregation is 'mean'; it must be majority or dawid_skene."),
        ("--loop [1]", "loop is [1]; it must be a mapping of keys to values."),
        ("--stop.cost x", "stop.cost is 'x'; it must be a number or null."),
        (
            "--stop.rule x",
            "stop.rule: There is no stopping rule 'x': there are: classification_change, ",
        ),
        ("--stop.rule.threshold 1", "stop.rule is {'threshold': 1}; it must be a name, a mapping with 'name', or {any"),
        ("--stop.rule {name: kappa_average, windw: 1}", "Unknown key 'stop.rule.windw': did you mean 'window'? ("),
        ("--stop.rule {name: kappa_average, threshold: x}", "stop.rule.threshold is 'x'; it must be a number."),
        ("--stop.rule target", "The config lacks 'stop.rule.threshold'."),
        (
            "--stop.rule {name: target, threshold: 0.9, metric: acc}",
            "stop.rule: there is no metric 'acc': there are: accuracy, f1_macro.",
        ),
        ("--stop.log 1", "stop.log is 1; it must be true or false."),
        ("--stop.size 0", "stop.size is 0; it must be at least 1."),
        ("--stop {log: true, rule: [kappa_average]}", "stop.rule is ['kappa_average']; it must be a name, a mapping"),
        ("--task 5", "task is 5; it must be text."),
        ("--task_options 5", "task_options is 5; it must be a mapping of keys to values."),
        ("--model [a]", "model is ['a']; it must be text."),
        ("--run_dir 5", "run_dir is 5; it must be text."),
        ("--dataset.columns text", "dataset.columns is 'text'; it must be a mapping."),
        ("--dataset.columns.text 5", "dataset.columns.text is 5; it must be the name of a column."),
        ("--dataset.data_files 5", "dataset.data_files holds 5; it must hold paths."),
        ("--dataset.data_files {train: [5]}", "dataset.data_files holds 5; it must hold paths."),
        ("--training.num_train_epochs x", "training.num_train_epochs is 'x'; it must be a number."),
        ("--training.bf16 yes", "training.bf16 is 'yes'; it must be true or false."),
        ("--training.max_steps 1.5", "training.max_steps is 1.5; it must be a whole number."),
        ("--training.mode qlora", "training.mode is 'qlora'; it must be full or lora or frozen."),
        ("--training.lora.rank 4", "Unknown key 'training.lora.rank'"),
        ("--training.lora.r 0", "training.lora.r is 0; it must be at least 1."),
        ("--training 5", "training is 5; it must be a mapping."),
        ("--strategy 5", "strategy is 5; it must be a name or a mapping with 'name'."),
        ("--strategy {agg: max}", "strategy is {'agg': 'max'}; it must be a name or a mapping with 'name'."),
        ("--annotator [oracle]", "annotator is ['oracle']; it must be a name or a mapping with 'name'."),
        ("--initial {name: random}", "initial is {'name': 'random'}; it must be a name or a mapping with 'strategy'."),
        ("--strategy.agg 5", "strategy.agg is 5; it must be text."),
        ("--annotator.noise lots", "annotator.noise is 'lots'; it must be a number."),
        ("--annotator {name: jsonl, folder: 5}", "annotator.folder is 5; it must be text or null."),
        # Values that are too small, too large or not among those there are.
        ("--loop.batch -1", "loop.batch is -1; it must be at least 1."),
        ("--loop.batch 0", "loop.batch is 0; it must be at least 1."),
        ("--loop.initial -1", "loop.initial is -1; it must be at least 0."),
        ("--loop.rounds -1", "loop.rounds is -1; it must be at least 0."),
        ("--loop.seed -1", "loop.seed is -1; it must be at least 0."),
        ("--loop.holdout 1.5", "loop.holdout is 1.5; it must be at least 0 and below 1."),
        ("--loop.holdout .nan", "loop.holdout is nan; it must be a number."),
        ("--stop.cost 0", "stop.cost is 0.0; it must be more than 0, or null for no limit."),
        ("--training.min_steps -1", "training.min_steps is -1; it must be at least 0."),
        ("--training.learning_rate -1", "training.learning_rate is -1; it must be at least 0."),
        (
            "--training.per_device_train_batch_size 0",
            "training.per_device_train_batch_size is 0; it must be at least 1.",
        ),
        ("--training.lr_scheduler_type foo", "training.lr_scheduler_type is 'foo'; it must be linear or cosine or "),
        ("--training.optim adam_torch", "training.optim is 'adam_torch'; the closest name is 'adamw_torch'."),
        ("--task_options.max_length 1", "task_options.max_length is 1; it must be at least 3."),
        ("--strategy.agg median", "strategy.agg is 'median'; it must be one of mean, sum, max, topm."),
        ("--annotator.noise 2", "annotator.noise is 2.0; it must lie between 0 and 1."),
        # What is missing, or can't be together.
        ("--task null", "The config lacks 'task': give it in the file or as --task."),
        ("--model null", "The config lacks 'model': give it in the file or as --model."),
        ("--dataset null", "The config lacks 'dataset': give it in the file or as --dataset."),
        (
            "--dataset.path null",
            "dataset must be a mapping with 'path': a Hub id, or csv, json, parquet, text with data_f",
        ),
        (
            "--dataset imdb",
            "dataset must be a mapping with 'path': a Hub id, or csv, json, parquet, text with data_files.",
        ),
        (
            "--initial margin",
            "initial.strategy is 'margin', which needs a fitted model; before any label take one of: ra",
        ),
        ("--strategy []", "strategy is an empty list; it must name at least one strategy."),
        (
            "--strategy [margin, badge]",
            "strategy[0]: margin needs 'keep', the number of examples that this stage hands",
        ),
        (
            "--strategy [{name: margin, keep: 0}, badge]",
            "strategy[0]: margin needs 'keep', the number of examples that",
        ),
        ("--strategy {name: margin, keep: 9}", "strategy: margin takes no 'keep'; only a stage with another behind it"),
        (
            "--strategy [{name: margin, keep: 90}, {name: badge, keep: 9}]",
            "strategy[1]: badge takes no 'keep'; only a ",
        ),
        (
            "--strategy [{name: margin, keep: 24}, badge]",
            "strategy[0].keep is 24; it must be at least loop.batch (25), ",
        ),
        (
            "--strategy [{name: margin, keep: 0x}, badge]",
            "strategy[0]: margin needs 'keep', the number of examples that this stage hands on, as 250 or, in batc",
        ),
        (
            "--strategy [{name: margin, keep: 1.5x}, badge]",
            "strategy[0]: margin needs 'keep', the number of examples that this stage hands on, as 250 or, in batc",
        ),
        (
            "--stop.rule noise_exit",
            "stop.rule is noise_exit, which reads what a filter leaves out, and strategy names none; there are: neural",
        ),
        (
            "--strategy [{name: margn, keep: 90}, badge]",
            "strategy[0]: There is no strategy 'margn'; the closest name is 'margin'.",
        ),
        ("--dataset.streaming true", "dataset.streaming is not taken: a pool has to be known whole."),
        (
            "--dataset.split train",
            "dataset.split is 'train'; it must map train, validation, test to splits of the data",
        ),
        (
            "--dataset.split.dev train",
            "dataset.split is {'dev': 'train'}; it must map train, validation, test to split",
        ),
        # What goes to the Hub.
        ("--push_to_hub me/x", "push_to_hub is 'me/x'; it must be a mapping of keys to values."),
        ("--push_to_hub.modell me/x", "Unknown key 'push_to_hub.modell': did you mean 'model'? (there are: dataset, m"),
        ("--push_to_hub.private maybe", "push_to_hub.private is 'maybe'; it must be true or false."),
        ("--push_to_hub.model 5", "push_to_hub.model is 5; it must be text or null."),
        ("--push_to_hub.model x", "push_to_hub.model is 'x'; it must be the name of a repository, as me/sms-spam."),
        ("--push_to_hub.model me/x/y", "push_to_hub.model is 'me/x/y'; it must be the name of a repository, as me/sms"),
        ("--push_to_hub.model 'me/a b'", "push_to_hub.model is 'me/a b'; it must be the name of a repository, as me/"),
        ("--push_to_hub.dataset me/a--b", "push_to_hub.dataset is 'me/a--b'; it must be the name of a repository, as "),
        (
            "--push_to_hub.dataset me/x",
            "push_to_hub.dataset is given, but the annotator is oracle: a simulation labels nothing that the data do",
        ),
        # Labels.
        ("--labels x", "labels is 'x'; it must be a list of names, or names with guidelines."),
        ("--labels []", "labels is []; it must be a list of names, or names with guidelines."),
        ("--labels [a]", "labels names 'a' alone; a model needs at least two labels."),
        ("--labels [a, 1.5]", "labels holds 1.5; a label must be text: put it in quotes."),
        ("--labels [a, true]", "labels holds True; a label must be text: put it in quotes."),
        ("--labels [a, null]", "labels holds null; a label must be text: put it in quotes."),
        ("--labels {a: x, null: y}", "labels holds null; a label must be text: put it in quotes."),
        ("--labels [a, '']", "labels holds ''; a label must be text: put it in quotes."),
        ("--labels [a, b, a]", "labels names the same label twice."),
        ("--labels [1, '1']", "labels names the same label twice."),
        ("--labels {a: 5, b: x}", "labels.a is 5; it must be text."),
        # Paths with nothing there.
        ("--model ./weights", "model is '{cwd}/weights', which is no folder; name one, or weights on the Hub."),
        (
            "--model pkg:no_such_package/model",
            "model is 'pkg:no_such_package/model', but no package 'no_such_package' is",
        ),
        (
            "--model pkg:no_such.sub/model",
            "model is 'pkg:no_such.sub/model', but no package 'no_such' is installed; in",
        ),
        (
            "--model pkg:transformers/nope",
            "model is 'pkg:transformers/nope', but the package 'transformers' holds no 'n",
        ),
        ("--dataset.path ./data", "dataset.path is '{cwd}/data', which is not there."),
        ("--dataset.data_files.train x.csv", "dataset.data_files names {cwd}/x.csv, which is no file."),
        (
            "--dataset.data_files pkg:datasets/no.csv",
            "dataset.data_files is 'pkg:datasets/no.csv', but the package 'dat",
        ),
    ],
)
def test_a_mistake_is_told(argv: str, told: str):
    key, _, value = argv.partition(" ")
    assert mistake(key, value).startswith(told.replace("{cwd}", str(Path.cwd())))


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("--sampler mc_droput", "There is no sampler 'mc_droput': did you mean 'mc_dropout'? (there are: ensemb"),
        ("--sampler 5", "sampler is 5; it must be a name or a mapping with 'name'."),
        ("--sampler [heads]", "sampler is ['heads']; it must be a name or a mapping with 'name'."),
        ("--sampler.passes 1", "sampler.passes is 1; it must be at least 2, or there is nothing to compare."),
        ("--sampler.passes many", "sampler.passes is 'many'; it must be a whole number."),
        ("--sampler.pases 3", "Unknown key 'sampler.pases': did you mean 'passes'? (there are: passes, rate)."),
        ("--sampler.rate 1", "sampler.rate is 1; it must lie between 0 and 1."),
        ("--sampler {name: laplace, prior: 0}", "sampler.prior is 0; it must be more than 0, or null."),
        ("--sampler {name: laplace, form: kron}", "sampler.form is 'kron'; it must be shared or exact."),
        ("--sampler {name: snapshots, start: 1}", "sampler.start is 1; it must be at least 0 and below 1."),
        (
            "--sampler mc_dropout --training.mode frozen",
            "sampler is 'mc_dropout', but a head on frozen features has no dropout; take heads or laplace or layers.",
        ),
        (
            "--sampler ensemble --training.mode frozen",
            "sampler is 'ensemble', but the same labels give the same head on frozen features, whatever the seed; take",
        ),
        (
            "--sampler snapshots --training.mode frozen",
            "sampler is 'snapshots', but a head is fitted to its optimum, and there is nothing to see on the way; take",
        ),
        (
            "--sampler snapshots --training.lr_scheduler_type constant",
            "sampler is 'snapshots', but it sets the learning rate itself, and training.lr_scheduler_type is constant; "
            "take mc_dropout or ensemble or heads or laplace or layers.",
        ),
    ],
)
def test_a_sampler_that_makes_no_sense_is_told(argv: str, told: str):
    words = re.split(r" (?=--)", argv)
    assert mistake(*(part for word in words for part in word.split(" ", 1))).startswith(told)


def test_a_sampler_goes_by_the_way_of_training():
    assert config().sampler == Sampler("mc_dropout")
    assert config("--training.mode", "lora").sampler == Sampler("mc_dropout")
    assert config("--training.mode", "frozen").sampler == Sampler("heads")
    assert config("--training.mode", "frozen", "--sampler.passes", "20").sampler == Sampler("heads", {"passes": 20})
    assert config("--sampler", "laplace", "--sampler.prior", "2").sampler == Sampler("laplace", {"prior": 2})
    assert config("--sampler", "{passes: 3}").sampler == Sampler("mc_dropout", {"passes": 3})
    assert config("--sampler.name", "ensemble").sampler == Sampler("ensemble")


def test_annotators_can_be_weighed_where_labels_have_names():
    asked = ("--loop.aggregation", "dawid_skene")
    for task in ("text-classification", "token-classification"):
        assert config(*asked, "--task", task, "--strategy", "entropy").loop.aggregation == "dawid_skene"
    assert mistake(*asked, "--task", "response-selection").startswith(
        "loop.aggregation is dawid_skene, which needs labels that mean the same for every example; those of "
        "response-selection are positions."
    )


@pytest.mark.parametrize(
    "name",
    [
        *("output_dir", "seed", "data_seed", "run_name", "report_to", "remove_unused_columns", "logging_dir"),
        *("save_steps", "save_strategy", "do_train", "eval_strategy", "eval_steps"),
        *("load_best_model_at_end", "resume_from_checkpoint"),
    ],
)
def test_training_arguments_that_are_ours_are_refused(name):
    told = mistake(f"--training.{name}", "1")
    assert told == f"training.{name} is set by the run itself (run_dir and loop.seed decide); leave it out."


@pytest.mark.parametrize("name", ["push_to_hub", "push_to_hub_model_id", "hub_model_id", "hub_private_repo"])
def test_training_arguments_that_push_are_refused_with_the_place_to_say_it(name):
    told = mistake(f"--training.{name}", "true")
    assert told == f"training.{name} is not taken: push_to_hub.model says where the final model goes on the Hub."


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--loop.batch"], "--loop.batch lacks its value; a value that begins with -- is written --loop.batch=value."),
        (["--loop.batch", "--model", "x"], "--loop.batch lacks its value; a value that begins with -- is written"),
        (["loop.batch", "3"], "'loop.batch' stands alone; every setting is written --key value."),
        (["--loop.batch", "3", "4"], "'4' stands alone; every setting is written --key value."),
        (["--", "3"], "'--' names no key; every setting is written --key value."),
        (["--loop..batch", "3"], "'--loop..batch' names no key; every setting is written --key value."),
        (["--model.name", "x"], "--model.name: model is 'org/weights', which has no keys of its own."),
        (
            ["--loop.batch.size", "3", "--loop.batch.x", "3"],
            "loop.batch is {'size': 3, 'x': 3}; it must be a whole num",
        ),
        (
            ["--strategy", "[margin]", "--strategy.agg", "max"],
            "--strategy.agg: strategy is ['margin'], which has no keys",
        ),
        (["--labels", "[a, b"], "--labels is not valid YAML: "),
        (["--config", "nope.yaml"], "--config names nope.yaml, which is no file."),
        (["--config", "."], "--config names ., which is no file."),
        (["--sweep.loop.seed", "[]"], "--sweep.loop.seed lists no value."),
        (
            ["--sweep.loop.seed", "1,1"],
            "Two runs of the sweep would share one run_dir; a --sweep must not list a value",
        ),
        (
            ["--sweep.loop.seed", "1,2", "--push_to_hub.model", "me/x"],
            "Two runs of the sweep would be pushed to one push_to_hub.model; sweep that too.",
        ),
        (["--sweep.loop.sed", "1,2"], "Unknown key 'loop.sed': did you mean 'seed'? ("),
    ],
)
def test_a_mistake_in_the_command_line_is_told(argv, told):
    assert mistake(*argv).startswith(told)


def test_a_recipe_serves_its_own_task_alone(tmp_path: Path):
    assert (
        mistake(task="token-classification")
        == "task is 'text-classification'; this script serves token-classification."
    )
    (tmp_path / "c.yaml").write_text("task:\nmodel: org/weights\ndataset: {path: org/data}\n")
    (made,) = parse_arguments(["--config", "c.yaml"], task="token-classification")
    assert made.task == "token-classification"


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "task: text-classification\n"])
def test_an_empty_file_lacks_everything(tmp_path: Path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=r"The config lacks 'model': give it in the file or as --model\."):
        parse_arguments(["--config", "c.yaml"], task="text-classification")


def test_values_are_written_as_in_yaml():
    assert config("--training.learning_rate", "1e-4").training.arguments["learning_rate"] == 1e-4
    assert config("--labels", "[yes, no]").labels == {"yes": "", "no": ""}
    assert config("--labels", "{spam: 'adverts', ham: }").labels == {"spam": "adverts", "ham": ""}
    assert config("--labels", "[2, 10]").labels == {"2": "", "10": ""}
    assert config("--dataset.delimiter", '"\\t"').dataset.arguments == {"delimiter": "\t"}
    assert config("--dataset.skiprows", "-1").dataset.arguments == {"skiprows": -1}
    assert config("--stop.cost", "100").stop.cost == 100.0


def test_dotted_keys_make_and_change_sections():
    assert config("--loop.batch=7", "--loop.seed=3").loop == Loop(batch=7, seed=3)
    assert config("--loop.batch", "7", "--loop.batch", "8").loop.batch == 8
    assert config("--loop", "{batch: 7}", "--loop.seed", "3").loop == Loop(batch=7, seed=3)
    assert config("--dataset.columns.text", "body").dataset.columns == {"text": "body"}
    assert config("--run_dir=a=b").run_dir == "a=b"
    assert config("--run_dir=--x").run_dir == "--x"


def test_a_named_section_takes_parameters_beside_the_name_it_has():
    (stage,) = config("--strategy", "entropy", "--strategy.agg", "max").strategy
    assert (stage.name, stage.parameters) == ("entropy", {"agg": "max"})
    assert config("--strategy.agg", "max").strategy[0].name == "margin"
    assert config("--annotator.noise", "0.1").annotator.parameters == {"noise": 0.1}
    assert config("--annotator", "jsonl", "--annotator.folder", "x").annotator.name == "jsonl"
    assert config("--initial", "typiclust", "--initial.neighbours", "5").initial.parameters == {"neighbours": 5}
    assert config("--initial.strategy", "coreset").initial.name == "coreset"


def test_a_stopping_rule_takes_parameters_too():
    assert config().stop == Stop(None, None, 2000, False)
    assert config("--stop.rule", "kappa_average").stop.rule == {"name": "kappa_average"}
    asked = ("--stop.rule", "kappa_average", "--stop.rule.threshold", "0.95")
    assert config(*asked).stop.rule == {"name": "kappa_average", "threshold": 0.95}
    assert config("--stop", "{rule: {name: target, threshold: 1}}").stop.rule == {"name": "target", "threshold": 1}
    rules = "{any: [kappa_average, {all: [max_uncertainty]}]}"
    assert config("--stop.rule", rules).stop.rule == {
        "any": [{"name": "kappa_average"}, {"all": [{"name": "max_uncertainty"}]}]
    }
    swept = [*LEAST, "--sweep.stop.rule", "kappa_average,{name: max_uncertainty, by: confidence}"]
    assert [c.run_dir for c in parse_arguments(swept)] == [
        "runs/sweep-kappa_average",
        "runs/sweep-max_uncertainty-by=confidence",
    ]


def test_rules_are_logged_in_simulations_alone():
    told = mistake("--stop.log", "true", "--annotator", "jsonl", "--labels", "[a, b]")
    assert told == (
        "stop.log is true, but the annotator is jsonl; where each rule would have stopped is seen in a simulation, "
        "under the annotator oracle."
    )


@pytest.mark.parametrize("rule", ["performance_plateau", "expected_gain", "{name: target, threshold: 0.9}"])
def test_a_rule_on_scores_needs_some(tmp_path: Path, rule):
    (tmp_path / "x.csv").write_text("text,label\na,b\n")
    train = ["--dataset", "{path: csv, data_files: {train: x.csv, test: x.csv}}", "--stop.rule", rule]
    told = mistake(*train)
    name = rule.strip("{}").split(",")[0].removeprefix("name: ")
    assert told == (
        f"stop.rule is {name}, which reads scores of validation or holdout, and there is neither: name a validation "
        "split, or set loop.holdout. Test labels are never looked at."
    )
    assert mistake("--dataset", "{path: csv, data_files: x.csv}", "--stop.rule", f"{{any: [{rule}]}}") == told
    assert mistake("--dataset.split", "{train: 'train[:80%]', test: 'train[80%:]'}", "--stop.rule", rule) == told
    split = ["--dataset.split", "{train: 'train[:80%]', validation: 'train[80%:]'}"]
    files = ["--dataset", "{path: csv, data_files: {train: x.csv, validation: x.csv}}"]
    held = ["--dataset", "{path: csv, data_files: x.csv}", "--loop.holdout", "0.1"]
    for given in (split, files, held, []):  # of org/data on the Hub nothing is known yet
        assert config(*given, "--stop.rule", rule).stop.rule is not None


def test_the_command_line_wins_over_the_file(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("loop: {batch: 3, rounds: 4}\nstrategy: {name: entropy, agg: sum}\n")
    made = config("--config", "c.yaml", "--loop.batch", "5", "--strategy.agg", "max")
    assert (made.loop.batch, made.loop.rounds) == (5, 4)
    assert made.strategy[0].parameters == {"agg": "max"}


def test_paths_start_at_the_file_or_where_the_command_is_given(tmp_path: Path):
    for folder in ("here", "here/weights", "here/models/small", "there", "there/models/small"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "x.csv").write_text("text,label\na,b\n")
    (tmp_path / "here/c.yaml").write_text(
        "task: text-classification\nmodel: ./weights\ndataset: {path: csv, data_files: {train: x.csv, test: [x.csv]}}\n"
    )
    here, there = tmp_path / "here", tmp_path / "there"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(there)

        def made(*argv: str) -> Config:
            return parse_arguments(["--config", "../here/c.yaml", *argv])[0]

        files = made().dataset.arguments["data_files"]
        assert files == {"train": f"{here}/x.csv", "test": [f"{here}/x.csv"]}
        assert made().model == f"{here}/weights"
        files = made("--dataset.data_files.train", "x.csv").dataset.arguments["data_files"]
        assert files == {"train": f"{there}/x.csv", "test": [f"{here}/x.csv"]}
        assert made("--dataset", "{path: csv, data_files: x.csv}").dataset.arguments == {"data_files": f"{there}/x.csv"}
        assert made("--sweep.dataset.data_files", "[x.csv]").dataset.arguments == {"data_files": f"{there}/x.csv"}
        assert made("--model", "models/small").model == f"{there}/models/small"
        assert made("--model", "org/weights").model == "org/weights"
        hub = made("--dataset.data_files", "hf://datasets/a/b.csv").dataset.arguments["data_files"]
        assert hub == "hf://datasets/a/b.csv"


def test_what_is_pushed_is_private_unless_it_says_otherwise():
    assert config().push_to_hub == PushToHub(None, None, True)
    swept = ["--sweep.push_to_hub.model", "me/a,me/b", "--run_dir", "r"]
    assert [c.push_to_hub.model for c in parse_arguments([*LEAST, *swept])] == ["me/a", "me/b"]


def test_a_home_folder_is_meant_by_its_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert config("--run_dir", "~/runs/a").run_dir == "/home/someone/runs/a"


def test_a_sweep_is_a_product_with_a_directory_for_each_run():
    argv = ["--run_dir", "runs/x/", "--sweep.strategy", "margin,random", "--sweep.loop.seed", "0,1"]
    made = parse_arguments([*LEAST, *argv])
    assert [(c.strategy_name, c.loop.seed, c.run_dir) for c in made] == [
        ("margin", 0, "runs/x-margin-0"),
        ("margin", 1, "runs/x-margin-1"),
        ("random", 0, "runs/x-random-0"),
        ("random", 1, "runs/x-random-1"),
    ]


@pytest.mark.parametrize(
    ("argv", "directories"),
    [
        (["--sweep.model", "org/a,org/b"], ["runs/sweep-org_a", "runs/sweep-org_b"]),
        (
            ["--sweep.strategy", "badge,{name: margin, agg: max},{name: margin, agg: sum}"],
            ["runs/sweep-badge", "runs/sweep-margin-agg=max", "runs/sweep-margin-agg=sum"],
        ),
        (["--sweep.strategy", "[[{name: margin, keep: 50}, badge]]"], ["runs/sweep-margin-keep=50+badge"]),
        (["--sweep.stop.cost", "null,9.5"], ["runs/sweep-null", "runs/sweep-9.5"]),
        (["--sweep.run_dir", "runs/a,runs/b"], ["runs/a", "runs/b"]),
        (["--sweep.run_dir", "runs/a", "--sweep.loop.seed", "1,2"], ["runs/a-1", "runs/a-2"]),
    ],
)
def test_directories_of_a_sweep_lie_directly_under_runs(argv, directories):
    assert [c.run_dir for c in parse_arguments([*LEAST, *argv])] == directories


def test_runs_of_a_sweep_do_not_share_what_is_changed():
    argv = ["--dataset.columns", "{label: y}", "--sweep.dataset.columns.text", "a,b"]
    assert [c.dataset.columns["text"] for c in parse_arguments([*LEAST, *argv])] == ["a", "b"]


def test_a_stage_may_hand_on_so_many_batches():
    made = config("--strategy", "[{name: margin, keep: 10x}, {name: entropy, keep: 90}, badge]", "--loop.batch", "30")
    assert [stage.keep for stage in made.strategy] == [300, 90, None]
    assert as_values(made)["strategy"][0] == {"name": "margin", "keep": 300}


def test_batches_of_words_are_no_number_of_examples():
    told = mistake("--strategy", "[{name: margin, keep: 10x}, badge]", "--loop.unit", "words")
    assert told == "strategy[0].keep is '10x', but a batch counts words; give a number of examples."


def test_a_rule_that_reads_a_filter_finds_it_in_any_stage_or_base():
    for strategy in (
        "neural_cal",
        "{name: seals, base: neural_cal}",
        "[{name: neural_cal, base: entropy, keep: 50}, badge]",
    ):
        assert config("--stop.rule", "noise_exit", "--strategy", strategy).stop.rule == {"name": "noise_exit"}


def test_a_run_directory_is_made_up_where_none_is_named():
    assert config("--loop.seed", "4").run_dir == "runs/text-classification-margin-4"
    staged = config("--strategy", "[{name: margin, keep: 50}, badge]")
    assert staged.run_dir == "runs/text-classification-margin+badge-0"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--stop.rule", "kappa_average", "--stop.rule.window", "4", "--stop.log", "true"],
        ["--stop.rule", "{any: [kappa_average, {all: [max_uncertainty, {name: target, threshold: 0.9}]}]}"],
        ["--task", "token-classification", "--labels", "{O: , B-X: 'a thing'}", "--annotator", "jsonl"],
        ["--strategy", "[{name: entropy, agg: max, keep: 60}, {name: badge}]", "--initial", "typiclust"],
        ["--stop.cost", "300", "--loop.unit", "words", "--training.mode", "frozen", "--training.weight_decay", "0.1"],
        ["--dataset.split", "{train: 'train[:80%]'}", "--dataset.delimiter", '"\\t"', "--annotator.noise", "0.2"],
        ["--labels", "[yes, 'null', '1e5']"],
        ["--sampler", "{name: laplace, passes: 20, prior: 0.5}", "--strategy", "bald"],
        ["--push_to_hub.model", "me/x", "--push_to_hub.private", "false"],
        ["--push_to_hub", "{dataset: me/x, model: me/x}", "--annotator", "jsonl", "--labels", "[a, b]"],
    ],
)
def test_a_config_comes_back_from_its_own_yaml(argv):
    made = config(*argv)
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(as_values(made), text)
    again = read_config(YAML(typ="safe", pure=True).load(text.getvalue()), Path("/elsewhere"))
    assert again == made
    assert as_values(again) == as_values(made)


def test_help_names_every_key_and_fits_a_terminal():
    text = help_text("What the script does.")
    assert text.startswith("What the script does.\n")
    expanded = {"dataset": Dataset, "loop": Loop, "stop": Stop, "training": Training, "push_to_hub": PushToHub}
    keys = ["config", "sweep.KEY"] + [f.name for f in fields(Config) if f.name not in expanded]
    sections = {**expanded, "training.lora": Lora}
    nested = {"arguments", "lora"}
    keys += [f"{name}.{f.name}" for name, kind in sections.items() for f in fields(kind) if f.name not in nested]
    for task in TASKS.values():
        keys += [f"task_options.{f.name}" for f in fields(task.Options)]
        keys += [f"dataset.columns.{role}" for role in (*task.columns, "id")]
    keys += [f"sampler.{f.name}" for sampler in SAMPLERS.values() for f in fields(sampler)]
    keys += [f"annotator.{f.name}" for annotator in ANNOTATORS.values() for f in fields(annotator)]
    lines = text.splitlines()
    keys += [f"stop.rule.{f.name}" for rule in STOPPING.values() for f in fields(rule)]
    assert all(f"\nWith stop.rule: {name}\n" in text for name in STOPPING)
    for key in keys:
        entry = next((line for line in lines if line.startswith(f"  --{key} ")), "")
        assert len(entry.split()) > 2, f"--{key} is not explained"
    assert max(map(len, lines)) <= 120
    assert set(STRATEGIES) <= set(text[text.index("\nStrategies:") :].replace(",", " ").split())
    assert "[25]" in next(line for line in lines if "--loop.batch" in line)


def test_help_of_a_recipe_keeps_to_its_task(capsys):
    with pytest.raises(SystemExit) as done:
        parse_arguments(["--help"], about="About.", task="text-classification")
    assert done.value.code == 0
    printed = capsys.readouterr().out
    assert "--dataset.columns.text" in printed
    assert "--dataset.columns.tags" not in printed
