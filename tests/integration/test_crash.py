"""`kill -9` at any moment loses no answer, asks nothing twice, and what is asked next is what would have been asked.

Every write of a run goes through `nlp_al.store.Disk`. Here a run is killed before each step of that disk, and inside
each write after a part of its bytes; then the same command is given again, and what it ends with is compared with a
run that was never killed. The runs are forks of one process that has loaded everything, as a run takes 0.2 s then.
"""

import gc
import itertools
import json
import multiprocessing
import os
import queue
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from helpers import read_lines, some_rows, tiny_model, values_of

from nlp_al.annotation import ANNOTATORS, Annotator, Question
from nlp_al.annotation.oracle import Oracle
from nlp_al.pool import Answer
from nlp_al.store import Disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and /proc are needed")

SMALL = {"learning_rate": 1e-3, "num_train_epochs": 1, "min_steps": 4, "per_device_train_batch_size": 8}
RECORDING = {"name": "recording", "noise": 0.2, "refusals": 0.3}
# What each scenario sets beside 120 rows, an initial set of 10, three batches of 5 and a frozen encoder.
SCENARIOS: dict[str, dict[str, Any]] = {
    "margin": {"strategy": "margin", "annotator": RECORDING},
    "badge": {"strategy": [{"name": "entropy", "keep": 40}, {"name": "badge"}], "annotator": RECORDING},
    "committee": {"strategy": "power_bald", "sampler": "heads", "annotator": RECORDING, "loop": {"rounds": 1}},
    "words": {
        "strategy": "badge",
        "annotator": RECORDING,
        "loop": {"unit": "words", "initial": 80, "batch": 40, "holdout": 0.3},
    },
    "people": {
        "strategy": "margin",
        "annotator": {"name": "people"},
        "labels": ["food", "money", "sport"],
        "loop": {"rounds": 2},
    },
    "again": {
        "strategy": "activelab",
        "annotator": {**RECORDING, "annotators": 3},
        "loop": {"initial": 30, "rounds": 1},
    },
    "changed": {"strategy": "badge", "annotator": RECORDING, "loop": {"rounds": 2}},
    "stopped": {
        "strategy": "margin",
        "annotator": RECORDING,
        "stop": {"rule": {"name": "kappa_average", "threshold": 0.2, "window": 2}, "log": True},
        "loop": {"rounds": 9},
    },
    "full": {
        "strategy": "margin",
        "annotator": RECORDING,
        "training": {"mode": "full", "init": "last", "final": "full", **SMALL},
        "loop": {"rounds": 2},
    },
    "final": {
        "strategy": "margin",
        "annotator": RECORDING,
        "training": {"final": "full", **SMALL},
        "loop": {"rounds": 0},
    },
}
# Scenarios that go on from a finished run, and what was different in that one.
BEFORE: dict[str, dict[str, Any]] = {
    "changed": {"strategy": "margin", "loop": {"initial": 10, "batch": 5, "rounds": 1}},
    "full": {"loop": {"initial": 10, "batch": 5, "rounds": 1}},
}


# Where a run is killed

CUTS = {
    "nothing": lambda data: 0,
    "one byte": lambda data: 1,
    "the first line": lambda data: data.find(b"\n") + 1,
    "half": lambda data: len(data) // 2,
    "all but the last line": lambda data: data.rfind(b"\n", 0, -1) + 1,
    "all but the newline": lambda data: len(data) - 1,
}
"""How many bytes of a write reach the file before the kill."""


class Kill(NamedTuple):
    """The step of the disk at which the process dies, counted from 0, and what of that step is done by then."""

    step: int
    done: str = "nothing"


def kills(trace: Sequence[tuple[str, str, str]], cuts: Sequence[str] = tuple(CUTS)) -> list[Kill]:
    """Before each step of a run, and inside each of its writes at each cut that differs from the others."""
    found = []
    for step, (kind, _, text) in enumerate(trace):
        data = text.encode()
        sizes = {CUTS[cut](data): cut for cut in cuts if 0 < CUTS[cut](data) < len(data)} if kind == "write" else {}
        found += [Kill(step), *(Kill(step, cut) for cut in sizes.values())]
    return found


class FaultyDisk(Disk):
    """Notes every step, and kills its own process at one of them.

    It waits for no disk: what was written outlives the process, and a power cut can't be played here.
    """

    def __init__(self, kill: Kill | None) -> None:
        self.kill = kill
        self.trace: list[tuple[str, str, str]] = []

    def write(self, descriptor: int, data: bytes) -> None:
        self._step("write", f"/proc/self/fd/{descriptor}", data, lambda size: os.write(descriptor, data[:size]))
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._step("sync", f"/proc/self/fd/{descriptor}")

    def rename(self, old: Path, new: Path) -> None:
        self._step("rename", str(new))
        old.replace(new)

    def _step(self, kind: str, path: str, data: bytes = b"", partly: Any = None) -> None:
        if self.kill is not None and self.kill.step == len(self.trace):
            if data:
                partly(CUTS[self.kill.done](data))
            os.kill(os.getpid(), signal.SIGKILL)
        self.trace.append((kind, Path(path).resolve().name, data.decode(errors="replace")))


# Who answers, and what they were shown; both are kept beside the run directory, as a server would


@dataclass
class Recording(Oracle):
    """The oracle, with a record of every batch that it is shown and of what `queries.jsonl` held by then."""

    def push(self, questions: Sequence[Question]) -> None:
        record(self, questions)
        super().push(questions)


@dataclass
class People(Annotator):
    """Two more examples at each pull, half of them answered by two people; what was answered stays so after a kill.

    What one pull gave must be on the disk before the next.
    """

    seconds_between_pulls = 0.0
    given: ClassVar[set[tuple[str, str]]] = set()

    def push(self, questions: Sequence[Question]) -> None:
        record(self, questions)

    def pull(self) -> list[Answer]:
        known = read_lines(self.setting.run_dir / "labels.jsonl")
        assert self.given <= {(line["id"], line["annotator"]) for line in known}
        pulls = beside(self.setting.run_dir, "pulls")
        pulls.write_text(str(int(pulls.read_text()) + 1 if pulls.exists() else 1))
        shown = read_lines(beside(self.setting.run_dir, "pushed"))
        asked = list(dict.fromkeys(name for batch in shown for name in batch["ids"]))
        answers = []
        for name in asked[: 2 * int(pulls.read_text())]:
            number = int(name.removeprefix("t"))
            label = list(self.setting.labels)[number % 3]
            answers.append(Answer(name, label, "ann", "skipped" if number % 5 == 0 else "submitted"))
            if number % 2:
                answers.append(Answer(name, "food", "bob"))
        self.given = {(answer.id, answer.annotator) for answer in answers}
        return answers


def beside(run_dir: Path, name: str) -> Path:
    return run_dir.with_name(f"{run_dir.name}.{name}")


def record(annotator: Annotator, questions: Sequence[Question]) -> None:
    run_dir = annotator.setting.run_dir
    line = {
        "round": questions[0].round,
        "ids": [question.example.id for question in questions],
        "before": [question.before for question in questions],
        "on_disk": [query["id"] for query in read_lines(run_dir / "queries.jsonl")],
    }
    with beside(run_dir, "pushed").open("a") as file:
        file.write(json.dumps(line) + "\n")


# The process whose forks are the runs


def serve(connections: Sequence[Any], folder: Path) -> None:
    """Loads everything, then forks a worker for each connection."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    import torch

    torch.set_num_threads(1)
    import transformers

    from nlp_al import metrics, scores  # noqa: F401  # metrics: loaded once here, not in each fork
    from nlp_al.bench import Bench
    from nlp_al.config import read_config

    _ = transformers.Trainer, transformers.BertForSequenceClassification
    scores.RESAMPLES = 2  # the interval of the holdout takes longer than the rest of the run
    ANNOTATORS.update(recording=Recording, people=People)
    model = tiny_model(folder / "model")
    values, benches = {}, {}
    for name, sections in SCENARIOS.items():  # what is there before a fork, all forks share
        rows = some_rows(120)
        if name == "people":
            rows = [row if at < 15 else {**row, "label": None} for at, row in enumerate(rows)]
        values[name] = values_of(folder / name, model, rows, 30 if name in ("full", "final") else 0, **sections)
        benches[name] = Bench.of(read_config(values[name], folder))
        benches[name].encoder.encode([example for split in benches[name].splits.values() for example in split])
    gc.freeze()
    workers = []
    for connection in connections:
        workers.append(os.fork())
        if workers[-1] == 0:
            try:
                _close(c for c in connections if c is not connection)
                _work(connection, values, benches)
            finally:
                os._exit(0)
    _close(connections)  # so that a worker's end is seen at the other end of its pipe
    for worker in workers:
        os.waitpid(worker, 0)


def _close(connections: Iterable[Any]) -> None:
    for connection in connections:
        connection.close()


def _work(connection: Any, values: dict[str, Any], benches: dict[str, Any]) -> None:
    """Runs (scenario, run_dir, kill, changes) after another; answers (exit status, steps or what went wrong).

    A run that is to be killed has a fork of its own, the others are done here.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for name, run_dir, kill, changes in iter(connection.recv, None):
        of_run = {**values[name], **changes, "run_dir": run_dir}
        if kill is None:
            connection.send(_one_run(of_run, benches[name], None))
            continue
        child = os.fork()
        if child == 0:
            _, said = _one_run(of_run, benches[name], kill)
            beside(Path(run_dir), "said").write_text(str(said))
            os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.send((status, None if status < 0 else beside(Path(run_dir), "said").read_text()))


def _one_run(values: dict[str, Any], bench: Any, kill: Kill | None) -> tuple[int, Any]:
    from nlp_al.config import read_config
    from nlp_al.learner import ActiveLearner

    disk = FaultyDisk(kill)
    try:
        ActiveLearner(read_config(values, Path(values["run_dir"]).parent), bench, disk).run()
    except Exception:
        return 1, traceback.format_exc()
    return 0, disk.trace


class Runs:
    """Starts runs of the scenarios and kills them; from several threads at once, a worker for each."""

    def __init__(self, connections: Sequence[Any], folder: Path) -> None:
        self.folder = folder
        self.workers: queue.Queue[Any] = queue.Queue()
        for connection in connections:
            self.workers.put(connection)
        self._references: dict[str, tuple[Path, list]] = {}
        self._numbers = itertools.count()

    def start(self, name: str, run_dir: Path, kill: Kill | None = None, **changes: Any) -> tuple[int, Any]:
        """The exit status, and the steps that the disk took or what went wrong."""
        worker = self.workers.get()
        try:
            worker.send((name, str(run_dir), kill, changes))
            return worker.recv()
        finally:
            self.workers.put(worker)

    def kill(self, name: str, run_dir: Path, kill: Kill, **changes: Any) -> bytes:
        """Runs until the kill; the answers that the directory holds then."""
        status, said = self.start(name, run_dir, kill, **changes)
        assert status == -signal.SIGKILL, said
        return whole_lines(run_dir / "labels.jsonl")

    def finish(self, name: str, run_dir: Path, **changes: Any) -> list:
        """Runs to the end; the steps that the disk took."""
        status, said = self.start(name, run_dir, **changes)
        assert status == 0, said
        return said

    def reference(self, name: str) -> tuple[Path, list]:
        """The run that was never killed, and its steps."""
        if name not in self._references:
            if name in BEFORE:
                self.finish(name, self.folder / f"{name}-before", **BEFORE[name])
            run_dir = self.fresh(name)
            self._references[name] = run_dir, self.finish(name, run_dir)
        return self._references[name]

    def fresh(self, name: str) -> Path:
        """A directory for a run of the scenario, empty or with the finished run that it goes on from."""
        run_dir = self.folder / f"{name}-{next(self._numbers)}"
        if name in BEFORE:
            before = self.folder / f"{name}-before"
            shutil.copytree(before, run_dir)
            shutil.copy(beside(before, "pushed"), beside(run_dir, "pushed"))
        return run_dir


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("crash")
    pipes = [multiprocessing.Pipe() for _ in range(min(len(os.sched_getaffinity(0)), 4))]
    ours, theirs = zip(*pipes, strict=True)
    # A process of its own: torch must not have started a thread before it forks.
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, folder))
    process.start()
    _close(theirs)
    yield Runs(ours, folder)
    for pipe in ours:
        pipe.send(None)
    process.join()


def at_each(points: Sequence[Kill], check: Callable[[Kill], None]) -> None:
    """Checks several points at a time."""

    def noted(kill: Kill) -> None:
        try:
            check(kill)
        except AssertionError as error:
            error.add_note(f"after {kill}")
            raise

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(noted, points))


# What has to hold


def answers_of(run_dir: Path) -> list[dict[str, Any]]:
    return [{key: line[key] for key in line if key != "time"} for line in read_lines(run_dir / "labels.jsonl")]


def metrics_of(run_dir: Path) -> list[dict[str, Any]]:
    apart = ("seconds", "peak_memory_mb")
    return [{key: line[key] for key in line if key not in apart} for line in read_lines(run_dir / "metrics.jsonl")]


def labels_of(run_dir: Path) -> dict[tuple[str, str], Any]:
    """The fold, without its last step: the last line of each id and annotator."""
    return {(line["id"], line["annotator"]): (line["status"], line["label"]) for line in answers_of(run_dir)}


def whole_lines(path: Path) -> bytes:
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def history_of(run_dir: Path) -> list[tuple[int, dict[str, Any]]]:
    lines = read_lines(run_dir / "config_history.jsonl")
    return [
        (line["round"], {key: line["changed"][key] for key in line["changed"] if key != "run_dir"}) for line in lines
    ]


def files_of(run_dir: Path) -> set[str]:
    return {str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.name != ".lock"}


def check_equal(run_dir: Path, reference: Path) -> None:
    """A run ended as the one did that was never killed."""
    assert (run_dir / "queries.jsonl").read_bytes() == (reference / "queries.jsonl").read_bytes()
    assert answers_of(run_dir) == answers_of(reference)
    assert labels_of(run_dir) == labels_of(reference)
    assert metrics_of(run_dir) == metrics_of(reference)
    assert history_of(run_dir) == history_of(reference)
    assert files_of(run_dir) == files_of(reference)
    stopping = [f"stopping/{path.name}" for path in reference.glob("stopping/*")]
    for name in ("final.json", "model/model.safetensors", "model/nlp_al.json", "model/README.md", *stopping):
        if (reference / name).exists():
            assert (run_dir / name).read_bytes() == (reference / name).read_bytes()
    for path in (reference / "labelled").rglob("*"):
        assert path.is_dir() or (run_dir / path.relative_to(reference)).read_bytes() == path.read_bytes()


def check_pushes(run_dir: Path) -> None:
    """No example was shown in two rounds but to somebody else, a batch that came again was the same, and it was on the
    disk first.
    """
    batches: dict[int, list[tuple[str, ...]]] = {}
    for push in read_lines(beside(run_dir, "pushed")):
        asked = [(name, *before) for name, before in zip(push["ids"], push["before"], strict=True)]
        assert asked == batches.setdefault(push["round"], asked)
        assert set(push["ids"]) <= set(push["on_disk"])
    shown = [question for batch in batches.values() for question in batch]
    assert len(shown) == len(set(shown))


def points(name: str, trace: list) -> list[Kill]:
    """Where a scenario is killed: in one everywhere, in the others at what they are about."""
    if name == "margin":
        return kills(trace)
    if name in ("badge", "words"):
        return kills(trace, [])
    if name in ("full", "final"):  # a fit takes long, and the steps before the last model are those of the others
        file = "labels.jsonl" if name == "full" else "metrics.jsonl"
        last = max(step for step, (kind, written, _) in enumerate(trace) if (kind, written) == ("write", file))
        return [kill for kill in kills(trace, ["half"]) if kill.step > last and not _among_others(trace, kill.step)]
    return kills(trace, ["half" if name in ("changed", "stopped") else "the first line"])


def _among_others(trace: list, step: int) -> bool:
    """A sync between two others: the directory is the same at all of them."""
    return {kind for kind, _, _ in trace[step - 1 : step + 2]} == {"sync"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_run_killed_at_any_step_ends_like_one_that_never_was(runs: Runs, name: str) -> None:
    reference, trace = runs.reference(name)

    def check(kill: Kill) -> None:
        run_dir = runs.fresh(name)
        received = runs.kill(name, run_dir, kill)
        runs.finish(name, run_dir)
        assert (run_dir / "labels.jsonl").read_bytes().startswith(received)
        check_equal(run_dir, reference)
        check_pushes(run_dir)
        shutil.rmtree(run_dir)

    at_each(points(name, trace), check)


def test_the_kill_points_are_many_and_at_every_file(runs: Runs) -> None:
    found = [(name, kill) for name in SCENARIOS for kill in points(name, runs.reference(name)[1])]
    assert len(found) == len(set(found)) >= 200
    torn = {runs.reference(name)[1][kill.step][1] for name, kill in found if kill.done != "nothing"}
    assert torn >= {"config.yaml.new", "environment.json.new", "queries.jsonl", "labels.jsonl", "metrics.jsonl"}
    assert torn >= {"nlp_al.json.new", "final.json.new", "README.md.new"}
    steps = {tuple(runs.reference(name)[1][kill.step][:2]) for name, kill in found}
    assert {("rename", "labelled"), ("sync", "train-00000-of-00001.parquet")} <= steps
    assert {("rename", "model"), ("rename", "model.old"), ("sync", "labels.jsonl"), ("sync", "queries.jsonl")} <= steps


@pytest.mark.parametrize("name", ["margin", "badge", "words"])
def test_a_run_killed_again_and_again_ends_like_one_that_never_was(runs: Runs, name: str) -> None:
    reference, trace = runs.reference(name)
    draw = random.Random(name)
    for _ in range(3):
        run_dir, received = runs.fresh(name), b""
        for _ in range(3):
            # Early steps, so that something is left to kill; the first ones repair what the last kill left.
            found = runs.kill(name, run_dir, Kill(draw.randrange(len(trace) // 4), draw.choice(list(CUTS))))
            assert found.startswith(received)
            received = found
        runs.finish(name, run_dir)
        assert (run_dir / "labels.jsonl").read_bytes().startswith(received)
        check_equal(run_dir, reference)
        check_pushes(run_dir)


def test_the_reference_is_worth_comparing_with(runs: Runs) -> None:
    for name in SCENARIOS:
        run_dir, _ = runs.reference(name)
        asked = [query["id"] for query in read_lines(run_dir / "queries.jsonl")]
        assert len(asked) > 0
        assert (len(asked) > len(set(asked))) == (name == "again")
        answered = [(line["id"], line["annotator"]) for line in answers_of(run_dir)]
        assert len(answered) == len(set(answered))
        assert set(asked) <= {name for name, _ in answered}
        assert name != "again" or sorted(asked) == sorted(name for name, _ in answered)
        check_pushes(run_dir)
        statuses = {line["status"] for line in answers_of(run_dir)}
        assert statuses == {"submitted", "skipped" if name == "people" else "discarded"}
    ((round_, changed),) = history_of(runs.reference("changed")[0])
    assert (round_, changed["strategy"]) == (2, [{"name": "margin"}, {"name": "badge"}])
    words = read_lines(runs.reference("words")[0] / "queries.jsonl")
    assert {"initial", "badge", "holdout"} == {query["strategy"] for query in words}
    stopped = metrics_of(runs.reference("stopped")[0])
    assert 2 < len(stopped) < 10
    assert [line["stop"]["decision"]["stop"] for line in stopped] == [False] * (len(stopped) - 1) + [True]
    assert {"kappa", "changed", "accuracy", "mean_entropy"} <= set(stopped[-1]["stop"])
    people = runs.reference("people")[0]
    assert {line["annotator"] for line in answers_of(people)} == {"ann", "bob", "dataset"}
    assert {"README.md", "nlp_al.json", "data"} == {path.name for path in (people / "labelled").iterdir()}


def test_after_a_kill_inside_the_swap_transformers_loads_the_model(runs: Runs) -> None:
    import transformers

    _, trace = runs.reference("full")
    renames = [
        step for step, (kind, file, _) in enumerate(trace) if kind == "rename" and file in ("model", "model.old")
    ]
    aside, into_place = renames
    for step in (aside, into_place):
        run_dir = runs.fresh("full")
        runs.kill("full", run_dir, Kill(step))
        assert (run_dir / "model").exists() == (step == aside)
        runs.finish("full", run_dir)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(run_dir / "model")
        assert model.config.id2label == {0: "food", 1: "money", 2: "sport"}
        assert transformers.AutoTokenizer.from_pretrained(run_dir / "model")("big match")["input_ids"]
