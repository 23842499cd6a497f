"""`kill -9` at any moment of a run with people in Argilla: nothing that they did is lost, and nothing is there twice.

The server and its people live on. A run is killed before each step of its disk and each of its requests, inside each
write, and, of each request that changes something, after a part of it, after all of it, and after the server has done
it. Then people go on for a while, and the same command is given again.
"""

import functools
import gc
import itertools
import json
import multiprocessing
import os
import queue
import random
import shutil
import signal
import ssl
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

pytest.importorskip("argilla_server")
pytest.importorskip("argilla")

from helpers import read_lines, some_rows, tiny_model, values_of
from servers import Api, answered, server

from nlp_al.annotation import ANNOTATORS
from nlp_al.annotation.argilla import Argilla
from nlp_al.argilla_server.home import OWNER
from nlp_al.relabel import FILE, Change
from nlp_al.store import Disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and /proc are needed")

ANN, BOB, JUDGE = PEOPLE = ("annotator-1", "annotator-2", "annotator-3")

# What each scenario sets beside a frozen encoder and margin as its strategy.
SCENARIOS: dict[str, dict[str, Any]] = {
    "published": {"loop": {"initial": 2, "rounds": 0}},
    "rounds": {"loop": {"initial": 4, "batch": 5, "rounds": 2, "seed": 3}, "annotator": {"control": 0.3}},
    "several": {
        "loop": {"initial": 4, "batch": 4, "rounds": 1, "holdout": 0.25, "seed": 2},
        "annotator": {"annotators": 2, "agreement": 0.5, "adjudicator": JUDGE},
    },
    "changed": {"loop": {"initial": 30, "rounds": 0}, "annotator": {"enough": 1, "ahead": None}},
}
WHO = {"several": PEOPLE}
"""Who answers, where it is not Ann alone."""

Trace = Sequence[tuple[str, str, str]]
"""Of each step: what is done, to which file or path, and what is written or sent."""


# Where a run is killed

CUTS: dict[str, Callable[[bytes], int]] = {
    "nothing": lambda data: 0,
    "half": lambda data: len(data) // 2,
    "all": len,
}
"""How many bytes of a write reach the file before the kill, or how many of a request are sent."""

DONE = "done"
"""The server has done what was asked, and its reply is lost."""


class Kill(NamedTuple):
    """The step at which the process dies, counted from 0, and what of that step is done by then."""

    step: int
    done: str = "nothing"


def kills(trace: Trace) -> list[Kill]:
    """Before each step that changes something, and inside it at each place that differs from the others.

    What reads or syncs leaves all as it was: a kill before it is one before the step after it.
    """
    found = []
    for step, (kind, _, text) in enumerate(trace):
        data = text.encode()
        if kind in ("sync", "GET"):
            continue
        cuts = {"write": ("half",), "rename": ()}.get(kind, ("half", "all"))
        sizes = {CUTS[cut](data): cut for cut in cuts if CUTS[cut](data) > 0}
        found += [Kill(step), *(Kill(step, cut) for cut in sizes.values())]
        found += [Kill(step, DONE)] if kind not in ("write", "rename") else []
    return found


class Steps(Disk):
    """Notes what a run does to its disk and asks of the server, and kills its own process at one of these steps.

    It waits for no disk: what was written outlives the process, and a power cut can't be played here.
    """

    def __init__(self, kill: Kill | None) -> None:
        self.kill = kill
        self.trace: list[tuple[str, str, str]] = []

    def write(self, descriptor: int, data: bytes) -> None:
        if self._is_last("write", f"/proc/self/fd/{descriptor}", data):
            os.write(descriptor, self._part(data))
            die()
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        if self._is_last("sync", f"/proc/self/fd/{descriptor}"):
            die()

    def rename(self, old: Path, new: Path) -> None:
        if self._is_last("rename", str(new)):
            die()
        old.replace(new)

    def request(self, ask: Callable[..., Any], method: str, path: str, **more: Any) -> Any:
        """A request of the annotator, made with `ask`."""
        body = json.dumps(more["json"]).encode() if more.get("json") is not None else b""
        if self._is_last(method, path, body):
            if self.kill.done == DONE:
                ask(method, path, **more)
            elif self._part(body):
                head = {"Content-Type": "application/json", "Content-Length": str(len(body))}
                ask(method, path, content=_dying(self._part(body)), headers=head)
            die()
        return ask(method, path, **more)

    def _is_last(self, kind: str, path: str, data: bytes = b"") -> bool:
        self.trace.append((kind, path if "/api/" in path else Path(path).resolve().name, data.decode(errors="replace")))
        return self.kill is not None and self.kill.step == len(self.trace) - 1

    def _part(self, data: bytes) -> bytes:
        return data[: CUTS.get(self.kill.done, CUTS["nothing"])(data)]


def _dying(data: bytes) -> Iterator[bytes]:
    yield data
    die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def replace(real: Callable[[Path, Path], Path], self: Path, target: Path) -> Path:
    """Path.replace, where the one rename that is no Disk's is a step."""
    if self.name == "argilla.new" and Watched.steps._is_last("rename", str(target)):
        die()
    return real(self, target)


# Who answers


@dataclass
class Watched(Argilla):
    """The annotator, but that people answer before each look at what they said, and that each request is a step."""

    seconds_between_pulls = 0.0
    steps: ClassVar[Steps]
    people: ClassVar["People"]

    def _connected(self) -> Any:
        made = super()._connected()
        made._http.request = functools.partial(self.steps.request, made._http.request)
        return made

    def pull(self) -> list[Any]:
        self.people.turn()
        return super().pull()


class People:
    """Those who answer what they see of a run, each with a key of their own.

    What they say depends on the record and on how often they said something of it. What the server has acknowledged is
    in a journal beside the run directory.
    """

    def __init__(self, url: str, keys: dict[str, str], run_dir: Path) -> None:
        self.run_dir, self.journal = run_dir, beside(run_dir, "said")
        self.apis = {name: Api(url, key) for name, key in keys.items()}
        self.options: dict[str, list[str]] = {}

    def turn(self) -> None:
        """Everybody answers three records of each data set that they see, and comes back to one of an earlier turn."""
        for name, api in self.apis.items():
            for page in pages_of(api, self.run_dir):
                if (name == JUDGE) == page["name"].endswith("review"):
                    self._answer(name, api, page["id"])

    def _answer(self, name: str, api: Api, page: str) -> None:
        said = Counter(line["id"] for line in self._lines(name))
        given = []
        new = [item["record"] for item in api.search(page, answered("pending"), limit=3)["items"]]
        for record in [*self._again(name, api, page), *new]:
            number, times = int(record["external_id"][1:]), said[record["external_id"]]
            if times == 1 and number % 7 == 3 and "changed" not in self.run_dir.name:
                api.ask("DELETE", f"responses/{record['responses'][0]['id']}")
                self._note(record, name, "retracted", None)
                continue
            status = "submitted" if times else {0: "discarded", 1: "draft"}.get(number % 6, "submitted")
            options = self._options(api, page)
            label = options[(number + times + (name == BOB and number % 2)) % len(options)]
            values = {"label": {"value": label}} if status == "submitted" or number % 4 == 1 else None
            given.append((record, status, label, {"record_id": record["id"], "status": status, "values": values}))
        if given:
            replies = api.ask("POST", "me/responses/bulk", {"items": [item for *_, item in given]})["items"]
            for (record, status, label, _), reply in zip(given, replies, strict=True):
                assert reply["error"] is None, reply
                self._note(record, name, status, label if status == "submitted" else None)

    def _again(self, name: str, api: Api, page: str) -> list[dict[str, Any]]:
        """A record that is a draft, or one of those that are changed or taken back once."""
        lines = self._lines(name)
        times = Counter(line["id"] for line in lines)
        open_ = {
            line["id"]
            for line in lines
            if times[line["id"]] == 1 and (line["status"] == "draft" or int(line["id"][1:]) % 7 in (3, 4))
        }
        if not open_:
            return []
        scope = {"entity": "response", "property": "status"}
        mine = {"filters": {"and": [{"type": "terms", "scope": scope, "values": ["draft", "submitted"]}]}}
        found = [item["record"] for item in api.search(page, mine, limit=50, include="responses")["items"]]
        return [record for record in found if record["external_id"] in open_][:1]

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return [line for line in read_lines(self.journal) if line["annotator"] == name]

    def _note(self, record: dict[str, Any], name: str, status: str, label: str | None) -> None:
        line = {"id": record["external_id"], "annotator": name, "status": status, "label": label}
        with self.journal.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _options(self, api: Api, page: str) -> list[str]:
        if page not in self.options:
            (question,) = api.ask("GET", f"datasets/{page}/questions")["items"]
            self.options[page] = [option["value"] for option in question["settings"]["options"]]
        return self.options[page]


def pages_of(api: Api, run_dir: Path, drafts: bool = False) -> list[dict[str, Any]]:
    """The data sets of a run that somebody sees; drafts: those too that are half made."""
    found = api.ask("GET", "me/datasets")["items"]
    mine = [one for one in found if one["name"].startswith(f"{run_dir.name}-")]
    return [one for one in mine if drafts or one["status"] == "ready"]


def beside(run_dir: Path, name: str) -> Path:
    return run_dir.with_name(f"{run_dir.name}.{name}")


# The process whose forks are the runs


def serve(connections: Sequence[Any], folder: Path) -> None:
    """Loads everything, then forks a worker for each connection."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    import torch

    torch.set_num_threads(1)
    import argilla  # noqa: F401  # loaded once here, not in each fork

    import nlp_al.annotation.connection
    from nlp_al import metrics, scores  # noqa: F401
    from nlp_al.bench import Bench
    from nlp_al.config import read_config

    nlp_al.annotation.connection.PATIENCE = 20.0
    ssl.create_default_context = functools.cache(ssl.create_default_context)  # which every client makes anew
    scores.RESAMPLES = 2  # the interval of the holdout takes longer than the rest of the run
    ANNOTATORS.update(argilla=Watched)
    Path.replace = functools.partialmethod(functools.partial(replace, Path.replace))  # type: ignore[method-assign]
    model = tiny_model(folder / "model")
    rows = [{**row, "label": None} for row in some_rows(40)]
    values, benches = {}, {}
    for name, sections in SCENARIOS.items():  # what is there before a fork, all forks share
        annotator = {"name": "argilla", **sections.get("annotator", {})}
        given = {"labels": ["food", "money", "sport"], "strategy": "margin", **sections, "annotator": annotator}
        values[name] = values_of(folder / name, model, rows, 10, **given)
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
    """Runs (scenario, run_dir, kill) after another; answers (exit status, steps or what went wrong).

    A run that is to be killed has a fork of its own, the others are done here.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    url, keys = connection.recv()
    for name, run_dir, kill in iter(connection.recv, None):
        annotator = {**values[name]["annotator"], "api_url": url, "api_key": keys[OWNER]}
        of_run = {**values[name], "annotator": annotator, "run_dir": str(run_dir)}
        who = {person: keys[person] for person in WHO.get(name, [ANN])}
        if kill is None:
            connection.send(_one_run(of_run, benches[name], None, People(url, who, run_dir)))
            continue
        child = os.fork()
        if child == 0:
            _, said = _one_run(of_run, benches[name], kill, People(url, who, run_dir))
            beside(run_dir, "wrong").write_text(str(said))
            os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.send((status, None if status < 0 else beside(run_dir, "wrong").read_text()))


def _one_run(values: dict[str, Any], bench: Any, kill: Kill | None, people: People) -> tuple[int, Any]:
    """People go on, and the command is given."""
    from nlp_al.bench import Bench
    from nlp_al.config import read_config
    from nlp_al.learner import ActiveLearner

    steps = Watched.steps = Steps(kill)
    Watched.people = people
    try:
        people.turn()
        config = read_config(values, people.run_dir.parent)
        changed = (people.run_dir / FILE).exists()
        ActiveLearner(config, Bench.of(config) if changed else bench, steps).run()
    except Exception:
        return 1, traceback.format_exc()
    return 0, steps.trace


class Left(NamedTuple):
    """What a kill left: the whole lines of labels.jsonl, and the records on the server."""

    answers: bytes
    records: dict[tuple[str, str], dict[str, Any]]


class Runs:
    """Starts runs of the scenarios and kills them; from two threads at once, a worker for each."""

    def __init__(self, connections: Sequence[Any], folder: Path, owner: Api) -> None:
        self.folder, self.owner = folder, owner
        self.workers: queue.Queue[Any] = queue.Queue()
        for connection in connections:
            self.workers.put(connection)
        self._traces: dict[str, list[tuple[str, str, str]]] = {}
        self._numbers = itertools.count()

    def start(self, name: str, run_dir: Path, kill: Kill | None = None) -> tuple[int, Any]:
        """The exit status, and the steps that were taken or what went wrong."""
        worker = self.workers.get()
        try:
            worker.send((name, run_dir, kill))
            return worker.recv()
        finally:
            self.workers.put(worker)

    def kill(self, name: str, run_dir: Path, kill: Kill) -> Left:
        """Runs until the kill; what is there then."""
        status, said = self.start(name, run_dir, kill)
        assert status == -signal.SIGKILL, said
        left = Left(whole_lines(run_dir / "labels.jsonl"), self.records(run_dir))
        check_killed(run_dir, left)
        return left

    def finish(self, name: str, run_dir: Path, *before: Left) -> list[tuple[str, str, str]]:
        """Runs to the end, and looks whether all is there that has to be; the steps that were taken."""
        status, said = self.start(name, run_dir)
        assert status == 0, said
        pages = {one["name"] for one in pages_of(self.owner, run_dir, drafts=True)}
        check_finished(run_dir, pages, self.records(run_dir), before)
        return said

    def whole(self, name: str) -> Path:
        """A run that is not killed."""
        run_dir = self.folder / f"{name}-whole"
        if name not in self._traces:
            self._traces[name] = self.finish(name, run_dir)
            if name == "changed":
                change_labels(run_dir)
                self._traces[name] = self.finish(name, run_dir)
        return run_dir

    def trace(self, name: str) -> Trace:
        """The steps of a run that is not killed; of "changed", those after the labels have changed."""
        self.whole(name)
        return self._traces[name]

    def fresh(self, name: str) -> Path:
        return self.folder / f"{name}-{next(self._numbers)}"

    def records(self, run_dir: Path) -> dict[tuple[str, str], dict[str, Any]]:
        """What the server has of a run, by kind of data set and id."""
        found = {}
        for page in pages_of(self.owner, run_dir):
            kind = page["name"].removeprefix(f"{run_dir.name}-").partition("-")[2]
            found |= {(kind, record["external_id"]): record for record in self.owner.records(page["id"])}
        return found

    def clear(self, run_dir: Path) -> None:
        """Takes away what is left of a run that ended well."""
        for page in pages_of(self.owner, run_dir):
            self.owner.ask("DELETE", f"datasets/{page['id']}")
        shutil.rmtree(run_dir)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("crash")
    ours, theirs = zip(*[multiprocessing.Pipe() for _ in range(2)], strict=True)
    # A process of its own: torch must not have started a thread before it forks.
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, folder))
    process.start()
    _close(theirs)
    try:
        with server(folder / "server", annotators=len(PEOPLE)) as running:
            keys = {name: running.home.api_key(name) for name in (OWNER, *PEOPLE)}
            for pipe in ours:
                pipe.send((f"http://127.0.0.1:{running.port}", keys))
            yield Runs(ours, folder, running.api())
    finally:
        _close(ours)  # which ends the workers
        process.join()


def at_each(points: Iterable[Any], check: Callable[[Any], None]) -> None:
    """Checks two points at a time, and no more after one that went wrong."""
    with ThreadPoolExecutor(2) as pool:
        checks = {pool.submit(check, point): point for point in points}
        for done, point in checks.items():
            try:
                done.result()
            except BaseException as error:
                pool.shutdown(cancel_futures=True)
                error.add_note(f"after {point}")
                raise


# What has to hold


def whole_lines(path: Path) -> bytes:
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def lines_of(run_dir: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in whole_lines(run_dir / name).splitlines()]


def check_killed(run_dir: Path, left: Left) -> None:
    """What was shown and what was used was on the disk first."""
    queries, answers = lines_of(run_dir, "queries.jsonl"), lines_of(run_dir, "labels.jsonl")
    assert {name for _, name in left.records} <= {query["id"] for query in queries}
    for line in lines_of(run_dir, "metrics.jsonl"):
        assert line["answers"] <= len(answers)
    final = {line["id"] for line in answers if line["status"] in ("submitted", "discarded")}
    for round_ in range(max((query["round"] for query in queries), default=0)):
        batch = {query["id"] for query in queries if query["round"] == round_}
        assert len(final & batch) >= len(batch) / 2  # so many are answered before the next is chosen


def check_finished(run_dir: Path, pages: set[str], records: Any, before: Sequence[Left]) -> None:
    """Nothing that was asked, shown or said is lost, changed or double."""
    queries, answers = lines_of(run_dir, "queries.jsonl"), lines_of(run_dir, "labels.jsonl")
    sizes = Counter(query["round"] for query in queries)
    assert [line["round"] for line in lines_of(run_dir, "metrics.jsonl")] == list(sizes) == sorted(sizes)
    assert all(query["batch"] == sizes[query["round"]] for query in queries)
    assert pages == {page["name"] for page in json.loads((run_dir / "argilla.json").read_text())["pages"].values()}

    lines = lines_of(run_dir, "suggestions.jsonl")
    guesses = {line["id"]: line["shown"] for line in lines}
    assert len(guesses) == len(lines)
    asked = [query["id"] for query in queries]
    shown = {name: record for (kind, name), record in records.items() if kind != "review"}
    assert len(asked) == len(set(asked)) == sum(kind != "review" for kind, _ in records)
    places = {name: at for at, name in enumerate(asked)}
    for line in lines_of(run_dir, "reranked.jsonl"):
        places |= line["places"]
    for query in queries:
        record = shown[query["id"]]
        about = {name: query[name] for name in ("round", "strategy")} | {"rank": places[query["id"]]}
        about |= {} if query["score"] is None else {"score": query["score"]}
        assert {name: value for name, value in record["metadata"].items() if name != "why"} == about
        assert record["metadata"]["why"]
        assert list(record["vectors"]) == ["embedding"]
        agents = [guess["agent"] for guess in record["suggestions"]]
        guessed = query["strategy"] == "margin"
        assert (query["id"] in guesses) == guessed
        assert agents == [f"model-of-round-{query['round'] - 1}"] * (guessed and guesses[query["id"]])
    for left in before:
        assert (run_dir / "labels.jsonl").read_bytes().startswith(left.answers)
        for name, record in left.records.items():
            assert look(records[name]) == look(record)

    said = {(line["id"], line["annotator"]): summary(line) for line in read_lines(beside(run_dir, "said"))}
    found: dict[tuple[str, str], Any] = {}
    for line in answers:
        who = (line["id"], line["annotator"])
        assert found.get(who) != summary(line), f"{line} is there twice"
        found[who] = summary(line)
    unseen = {who for who, (status, _) in said.items() if status == "retracted" and who not in found}
    assert found == {who: what for who, what in said.items() if who not in unseen}
    held = [response for record in records.values() for response in record["responses"]]
    assert len(held) == sum(status != "retracted" for status, _ in said.values())


def summary(line: dict[str, Any]) -> tuple[str, str | None]:
    """The status and the label, as it was called at first: `change_labels` puts numbers behind it."""
    return line["status"], line["label"] and line["label"].split("-")[0]


def look(record: dict[str, Any]) -> dict[str, Any]:
    """What people see of a record, but for its place, which may change."""
    guesses = [(one["value"].split("-")[0], one["score"], one["agent"]) for one in record["suggestions"]]
    metadata = {**record["metadata"], "rank": None}
    return {"fields": record["fields"], "vectors": record["vectors"], "guesses": guesses, "metadata": metadata}


def change_labels(run_dir: Path) -> None:
    """Another name for the label sport, as `nlp-al labels RUN rename` writes it."""
    number = len(lines_of(run_dir, FILE))
    old = f"sport-{number}" if number else "sport"
    change = Change("rename", (old,), f"sport-{number + 1}", "", len(lines_of(run_dir, "labels.jsonl")))
    with (run_dir / FILE).open("a") as file:
        file.write(json.dumps({**asdict(change), "time": ""}) + "\n")


# The points


def points(name: str, trace: Trace) -> list[Kill]:
    """Where a run is killed once.

    From the first batch on; of "rounds", where "published" has that, from the first answer on; of "changed", in what
    makes a new data set and ends with the old one being gone.
    """
    file = {"rounds": "labels.jsonl", "changed": "argilla.json"}.get(name, "queries.jsonl")
    steps = [step for step, (_, what, _) in enumerate(trace) if what == file]
    last = steps[-1] if name == "changed" else len(trace)
    return [kill for kill in kills(trace) if steps[0] <= kill.step <= last]


def series(name: str, trace: Trace, count: int, until: int) -> list[tuple[Kill, Kill]]:
    """Some of these points, each with another one at which the run is killed when it has begun again."""
    draw = random.Random(name)
    return [
        (kill, Kill(draw.randrange(until), draw.choice([*CUTS, DONE])))
        for kill in draw.sample(points(name, trace), count)
    ]


def all_points(runs: Runs) -> dict[str, list[tuple[str, Kill, Kill]] | list[Kill]]:
    """By test or scenario."""
    found: dict[str, Any] = {name: points(name, runs.trace(name)) for name in ("published", "rounds", "changed")}
    found["twice"] = [("several", *both) for both in series("several", runs.trace("several"), 20, 20)]
    found["between"] = [
        (name, *both) for name in ("published", "rounds") for both in series(name, runs.trace(name), 8, 30)
    ]
    return found


@pytest.mark.parametrize("name", ["published", "rounds"])
def test_a_run_killed_at_any_step(runs: Runs, name: str) -> None:
    def check(kill: Kill) -> None:
        run_dir = runs.fresh(name)
        runs.finish(name, run_dir, runs.kill(name, run_dir, kill))
        runs.clear(run_dir)

    at_each(all_points(runs)[name], check)


def test_a_run_with_several_people_killed_twice(runs: Runs) -> None:
    def check(point: tuple[str, Kill, Kill]) -> None:
        name, *killed = point
        run_dir = runs.fresh(name)
        runs.finish(name, run_dir, *[runs.kill(name, run_dir, kill) for kill in killed])
        runs.clear(run_dir)

    at_each(all_points(runs)["twice"], check)


def test_a_run_killed_while_its_labels_change(runs: Runs) -> None:
    """Records move from one data set to the next, again and again; each time the run is killed at another step."""

    def check(part: Sequence[Kill]) -> None:
        run_dir = runs.fresh("changed")
        before = []
        runs.finish("changed", run_dir)
        for kill in part:
            change_labels(run_dir)
            before.append(runs.kill("changed", run_dir, kill))
            runs.finish("changed", run_dir, *before)
        runs.clear(run_dir)

    found = all_points(runs)["changed"]
    at_each([found[at : at + 6] for at in range(0, len(found), 6)], check)


def test_labels_that_change_between_two_kills_and_after(runs: Runs) -> None:
    """What the first start left half published is of other labels, and what the second one left half moved too."""

    def check(point: tuple[str, Kill, Kill]) -> None:
        name, *killed = point
        run_dir, before = runs.fresh(name), []
        for kill in killed:
            before.append(runs.kill(name, run_dir, kill))
            change_labels(run_dir)
        runs.finish(name, run_dir, *before)
        runs.clear(run_dir)

    at_each(all_points(runs)["between"], check)


def test_the_points_are_many_and_at_everything_that_is_written(runs: Runs) -> None:
    found = all_points(runs)
    assert sum(len(found[name]) for name in ("published", "rounds", "changed")) >= 150
    assert sum(len(killed) for name in ("twice", "between") for _, *killed in found[name]) >= 60
    at = {
        name: {runs.trace(name)[kill.step][:2] for kill in found[name]} for name in ("published", "rounds", "changed")
    }
    assert {("write", "queries.jsonl"), ("write", "labels.jsonl"), ("write", "metrics.jsonl")} <= at["published"]
    assert {("rename", "argilla.json"), ("rename", "labelled"), ("POST", "/api/v1/datasets")} <= at["published"]
    assert {"questions", "vectors-settings", "publish", "bulk"} <= {Path(what).name for _, what in at["published"]}
    assert {("write", "reranked.jsonl"), ("write", "queries.jsonl"), ("write", "labels.jsonl")} <= at["rounds"]
    assert {"PATCH", "PUT", "POST", "DELETE"} <= {kind for name in at for kind, _ in at[name]}


def test_the_runs_are_worth_killing(runs: Runs) -> None:
    """People do all that they may, a batch is chosen while the one before it is answered, and its order changes."""
    run_dir = runs.whole("rounds")
    answers = lines_of(run_dir, "labels.jsonl")
    assert {line["status"] for line in answers} == {"submitted", "discarded", "draft", "retracted"}
    assert max(Counter(line["id"] for line in answers if line["status"] == "submitted").values()) > 1  # edited
    assert lines_of(run_dir, "reranked.jsonl")
    written = [what for _, what, text in runs.trace("rounds") if what in ("queries.jsonl", "metrics.jsonl") and text]
    assert written[:3] == ["queries.jsonl", "queries.jsonl", "metrics.jsonl"]
    run_dir = runs.whole("several")
    assert set(json.loads((run_dir / "argilla.json").read_text())["pages"]) == {"main", "everybody", "review"}
    assert {line["annotator"] for line in lines_of(run_dir, "labels.jsonl")} == set(PEOPLE)
    assert {query["strategy"] for query in lines_of(run_dir, "queries.jsonl")} == {"initial", "margin", "holdout"}
    records = runs.records(runs.whole("changed")).values()
    assert {record["status"] for record in records} == {"pending", "completed"}
