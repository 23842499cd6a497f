"""`nlp-al` and the frame of every command: what is printed where, and the exit status."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nlp_al import __version__
from nlp_al.cli import main
from nlp_al.errors import RunError, UserError
from nlp_al.main import run_command
from nlp_al.strategies import STRATEGIES


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UserError("loop.batch is 0; it must be at least 1."), 2, "error: loop.batch is 0; it must be at least 1.\n"),
        (UserError("Two\n  lines."), 2, "error: Two lines.\n"),
        (RunError("The disk is full."), 1, "error: The disk is full.\n"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), 1, "error: No space left on device: /a/b.\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 1, "error: Permission denied: /a/b.\n"),
        (OSError("the server is gone"), 1, "error: the server is gone.\n"),
        (KeyboardInterrupt(), 130, "error: Interrupted; the same command goes on from here.\n"),
    ],
)
def test_an_error_is_one_sentence_and_a_status(capsys, error, status, told):
    assert run_command(raising(error)) == status
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", told)


def test_no_error_is_status_0(capsys):
    assert run_command(lambda: print("done")) == 0
    assert capsys.readouterr() == ("done\n", "")


def test_a_mistake_in_this_library_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: print(1 // 0))


def test_one_process_of_many_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run_command(raising(UserError("No."))) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "error: nlp-al: the following arguments are required: COMMAND; see nlp-al --help."),
        (["reprot"], "error: nlp-al: argument COMMAND: invalid choice: 'reprot' (choose from "),
        (["report"], "error: nlp-al report: the following arguments are required: RUN; see nlp-al report --help."),
        (["strategies", "--jsn"], "error: nlp-al: unrecognized arguments: --jsn; see nlp-al --help."),
        (["finish", "nope"], "error: nope is no run directory: it holds no config.yaml."),
        (["report", "nope"], "error: nope: this is not a run directory"),
        (["compare", "."], "error: .: this is not a run directory"),
        (["report", "a.txt"], "error: a.txt: this is not a run directory"),
        (["finish", "a.txt"], "error: a.txt is no run directory: it holds no config.yaml."),
    ],
)
def test_bad_usage(capsys, tmp_path: Path, monkeypatch, argv, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(told)
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("- 1\n", "run/config.yaml holds [1]; it must be a mapping of keys to values."),
        ("task: [\n", "run/config.yaml line 1 is not valid YAML: "),
        ("tsk: x\n", "Unknown key 'tsk': did you mean 'task'? ("),
    ],
)
def test_a_run_whose_config_was_spoilt(capsys, tmp_path: Path, monkeypatch, config, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(config)
    assert main(["finish", "run"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_strategies_as_json(capsys):
    assert main(["strategies", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == sorted(STRATEGIES)
    keys = ("name", "family", "scenario", "batch_aware", "tasks", "shapes", "needs", "reference")
    assert {tuple(row) for row in rows} == {keys}
    badge = next(row for row in rows if row["name"] == "badge")
    assert badge["tasks"] == ["text-classification", "token-classification", "response-selection"]
    assert badge["needs"] == ["gradients"]
    assert set(badge["shapes"]) == {"single", "multi", "sequence", "ranking"}
    assert all(row["reference"] and row["family"] and row["tasks"] for row in rows)


# Ren et al., A Survey of Deep Active Learning (2020), arXiv:2009.00236, the baseline, and Deep Active Learning in the
# Presence of Label Noise: A Survey (2023), arXiv:2302.11075.
FAMILIES = ["random", "uncertainty", "diversity", "density", "expected model change", "hybrid", "semi-supervised"]
FAMILIES += ["label noise"]


@pytest.mark.parametrize("family", FAMILIES)
def test_strategies_of_one_family(capsys, family):
    assert main(["strategies", "--json", "--family", family]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == {name for name, kind in STRATEGIES.items() if kind.family == family}
    assert rows
    assert {row["scenario"] for row in rows} == {"pool"}


def test_every_strategy_is_of_a_known_family(capsys):
    assert {kind.family for kind in STRATEGIES.values()} == set(FAMILIES)
    assert main(["strategies", "--family", "hybird"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no family 'hybird': did you mean 'hybrid'?")


# What looks at scores one by one, but draws.
DRAWN = {"random", "lightweight_coreset", "layer_qbc"} | {
    name + of for name in ("power", "softmax", "softrank") for of in ("", "_bald")
}


def test_those_that_look_at_a_batch_as_a_whole_ask_fewer_copies(capsys):
    """Every example is there twice: of eight picks, scores alone make four pairs."""
    import torch

    from nlp_al.strategies import make_strategy
    from nlp_al.testing import synthetic_signals

    assert main(["strategies", "--json", "--batch-aware"]) == 0
    aware = {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert {"badge", "coreset", "batchbald", "cluster_margin", "suggestive_annotation"} <= aware
    for name in sorted(set(STRATEGIES) - DRAWN):
        made = make_strategy(name)
        assert made.batch_aware == (name in aware)
        pairs, pool = 0, torch.arange(24).repeat_interleave(2)
        for shape in made.shapes:
            for seed in range(3):
                labelled = 0 if made.relabels else 6  # of which there are no copies
                signals = synthetic_signals(shape, 24, seed, labelled=labelled).take(pool)
                picks = made.select(signals, 8, torch.Generator().manual_seed(seed)).indices
                pairs += 8 - len(pool[picks].unique())
        assert (pairs < 4 * 3 * len(made.shapes)) == (name in aware), (name, pairs)


def test_a_wrapper_looks_at_a_batch_as_its_base_does():
    from nlp_al.strategies import make_strategy

    assert make_strategy("seals", base="badge").batch_aware
    assert make_strategy("by_budget", low="random", high="badge").batch_aware
    assert not make_strategy("by_budget", low="random", high="margin").batch_aware


def test_strategies_for_people(capsys):
    assert main(["strategies"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == sorted(STRATEGIES)


@pytest.mark.parametrize(("argv", "told"), [(["--version"], f"nlp-al {__version__}"), (["--help"], "usage: nlp-al")])
def test_help_and_version(capsys, argv, told):
    with pytest.raises(SystemExit) as done:
        main(argv)
    assert done.value.code == 0
    assert capsys.readouterr().out.startswith(told)


def test_listing_loads_no_torch_and_survives_a_closed_pipe():
    code = "import sys; from nlp_al.cli import main; main(['strategies']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    piped = f"{sys.executable} -m nlp_al.cli strategies --json | true"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=False)
    assert done.stderr == ""
