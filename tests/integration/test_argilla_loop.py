"""The whole loop with a real Argilla server, people being threads that answer what waits for them."""

import _thread
import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("argilla_server")
pytest.importorskip("argilla")

from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines
from servers import Api, Server, answered, server

from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.signals.collector import collect


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server") / "data", annotators=3) as made:
        yield made


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


ROWS = some_rows(60)
GOLD = {row["id"]: row["label"] for row in ROWS}


def values(running: Server, model: str, folder: Path, **sections: Any) -> dict[str, Any]:
    """A run without gold labels but those of the test set."""
    people = {"name": "argilla", "api_url": f"http://127.0.0.1:{running.port}", "api_key": running.home.api_key()}
    bare = [{**row, "label": None} for row in ROWS]
    given = {"labels": ["food", "money", "sport"], "annotator": people, "loop": {"rounds": 2}}
    return values_of(folder, model, bare, **{**given, **sections})


def run(given: dict[str, Any]) -> Path:
    ActiveLearner(read_config(given, Path.cwd())).run()
    return Path(given["run_dir"])


def pages_of(run_dir: Path) -> dict[str, str]:
    """The ids of a run's data sets by kind, as far as they are published."""
    note = run_dir / "argilla.json"
    pages = json.loads(note.read_text())["pages"] if note.exists() else {}
    return {kind: kept["id"] for kind, kept in pages.items() if "id" in kept}


@contextmanager
def person(running: Server, name: str, run_dir: Path, answer: Callable[[Api, dict[str, Any]], None]) -> Iterator[None]:
    """Somebody who answers what waits for them, one after another, until the block ends."""
    done, wrong = threading.Event(), []

    def work() -> None:
        api = running.api(name)
        try:
            while not done.wait(0.05):
                for page in pages_of(run_dir).values():
                    for item in api.search(page, answered("pending"), offset=0, limit=1)["items"]:
                        answer(api, item["record"])
        except BaseException as error:
            wrong.append(error)
            _thread.interrupt_main()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if wrong:
            raise wrong[0]


def gold(api: Api, record: dict[str, Any]) -> None:
    api.answer(record["id"], label=GOLD[record["external_id"]])


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("nlp_al.annotation.argilla.Argilla.seconds_between_pulls", 0.1)


def test_the_next_batch_is_there_before_this_one_is_done(running, model, tmp_path):
    given = values(running, model, tmp_path)
    run_dir = Path(given["run_dir"])
    seen: list[tuple[int, int, int]] = []

    def answer(api: Api, record: dict[str, Any]) -> None:
        round_ = record["metadata"]["round"]
        waiting, end = [round_], time.monotonic() + 60
        while waiting.count(round_) == 1 and max(waiting) == round_ < 2 and time.monotonic() < end:
            records = list(running.api().records(pages_of(run_dir)["main"]))
            waiting = [one["metadata"]["round"] for one in records if one["status"] == "pending"]
        seen.append((round_, record["metadata"]["rank"], max(waiting)))
        gold(api, record)

    with person(running, "annotator-1", run_dir, answer):  # who keeps the last one of a batch until there is the next
        run(given)
    assert [round_ for round_, _, _ in seen] == sorted(round_ for round_, _, _ in seen)  # the older batch first
    assert len(seen) == 20
    for round_ in (0, 1):
        assert any(asked == round_ and newest == round_ + 1 for asked, _, newest in seen)
    queries = read_lines(run_dir / "queries.jsonl")
    assert [query["round"] for query in queries] == [0] * 10 + [1] * 5 + [2] * 5
    metrics = read_lines(run_dir / "metrics.jsonl")
    assert [line["cost"] for line in metrics] == [10, 15, 20]
    assert {line["id"]: line["label"] for line in read_lines(run_dir / "labels.jsonl")} == {
        query["id"]: GOLD[query["id"]] for query in queries
    }
    for line in read_lines(run_dir / "reranked.jsonl"):
        asked = {query["id"] for query in queries if query["round"] == line["round"]}
        assert set(line["places"]) <= asked


def test_the_order_of_asking_is_that_of_the_newest_model(running, model, tmp_path, monkeypatch):
    """What is still open of a batch that was chosen ahead is ordered by the model that knows the batch before it."""
    given = values(running, model, tmp_path, loop={"rounds": 1, "initial": 10, "batch": 15})
    run_dir = Path(given["run_dir"])
    ranked: list[dict[str, int]] = []
    real = ActiveLearner._rank_again

    def rank_again(self: Any) -> None:
        real(self)
        batch = self.pool.round_queries(self.round)
        signals = collect(self.fit.model, [self.pool[q.id] for q in batch], {"probs"}, torch.Generator())
        top2 = signals.probs.topk(2, dim=1).values
        margins = {q.id: float(m) for q, m in zip(batch, top2[:, 0] - top2[:, 1], strict=True)}
        open_ = {q.id for q in self.pool.unanswered(self.round)}
        ranked.append({name: margins[name] for name in sorted(open_, key=self.pool.places().__getitem__)})

    def answer(api: Api, record: dict[str, Any]) -> None:
        end = time.monotonic() + 60
        while record["metadata"]["round"] == 1 and not ranked and time.monotonic() < end:
            time.sleep(0.05)
        gold(api, record)

    monkeypatch.setattr(ActiveLearner, "_rank_again", rank_again)
    with person(running, "annotator-1", run_dir, answer):
        run(given)
    (order,) = ranked
    assert len(order) > 5
    assert list(order.values()) == sorted(order.values())
    (line,) = read_lines(run_dir / "reranked.jsonl")
    assert sorted(line["places"], key=line["places"].__getitem__) == list(order)
    records = {one["external_id"]: one for one in running.api().records(pages_of(run_dir)["main"])}
    assert {name: records[name]["metadata"]["rank"] for name in order} == line["places"]


def test_without_ahead_nothing_is_asked_before_training(running, model, tmp_path):
    given = values(running, model, tmp_path)
    given["annotator"]["ahead"] = None
    run_dir = Path(given["run_dir"])

    def answer(api: Api, record: dict[str, Any]) -> None:
        rounds = {one["metadata"]["round"] for one in running.api().records(pages_of(run_dir)["main"])}
        assert max(rounds) == record["metadata"]["round"]
        gold(api, record)

    with person(running, "annotator-1", run_dir, answer):
        run(given)
    assert not (run_dir / "reranked.jsonl").exists()
    assert len(read_lines(run_dir / "labels.jsonl")) == 20


@pytest.mark.parametrize("kind", ["several", "entities", "dialogue"])
def test_the_guess_of_every_shape_is_filled_in(running, model, tmp_path, kind):
    """From the second round on there is a model, and its guess of each record is one that the page can show."""
    sections: dict[str, Any] = {}
    if kind == "several":
        rows = [{**row, "label": [row["label"]]} for row in some_rows(40)]
        sections["task_options"] = {"max_length": 32, "multi_label": True}
    elif kind == "entities":
        rows, sections["task"], sections["labels"] = some_sentences(40), "token-classification", ["X"]
    else:
        rows, sections["task"], sections["labels"] = some_dialogues(40), "response-selection", None
    role = "tags" if kind == "entities" else "label"
    gold = {row["id"]: row[role] for row in rows}
    given = values(running, model, tmp_path, loop={"initial": 10, "batch": 10, "rounds": 1}, **sections)
    given = {name: value for name, value in given.items() if value is not None}
    given["annotator"] |= {"control": 0.0, "explain": True}
    write_lines(Path(given["dataset"]["data_files"].pop("test")), [])
    write_lines(Path(given["dataset"]["data_files"]["train"]), [{**row, role: None} for row in rows])
    learner = ActiveLearner(read_config(given, Path.cwd()))

    def answer(api: Api, record: dict[str, Any]) -> None:
        name = record["external_id"]
        api.answer(record["id"], label=learner.task.to_form(gold[name], learner.pool[name]))

    run_dir = Path(given["run_dir"])
    with person(running, "annotator-1", run_dir, answer):
        learner.run()
    records = list(running.api().records(pages_of(run_dir)["main"]))
    assert [len(one["suggestions"]) for one in records if one["metadata"]["round"] == 0] == [0] * 10
    guessed = [one["suggestions"] for one in records if one["metadata"]["round"] == 1]
    assert len(guessed) == 10
    assert all(guessed) if kind == "dialogue" else any(guessed)  # of several labels none may be likely
    for one in records:  # with what it hangs on, words of the text or of the context
        words = one["metadata"].get("salient")
        assert (words is not None) == bool(one["suggestions"])
        text = one["fields"].get("text") or " ".join(turn["content"] for turn in one["fields"]["context"])
        assert set(words.split(", ") if words else ()) <= set(text.split())
    assert learner.pool.labels() == {one["external_id"]: gold[one["external_id"]] for one in records}


def test_labels_that_change_in_the_middle_of_a_run(running, model, tmp_path, capsys):
    """One is added, one is renamed and two are made one; what was answered is carried over and nothing asked again."""
    given = values(running, model, tmp_path, loop={"rounds": 0})
    given["labels"] = {"food": "what one eats", "money": "", "sport": ""}
    with person(running, "annotator-1", Path(given["run_dir"]), gold):
        run_dir = run(given)
    old = pages_of(run_dir)["main"]
    for words in (["add", "travel", "--guideline", "trains"], ["rename", "sport", "games"], ["merge", "food", "money"]):
        more = ["--into", "food"] if words[0] == "merge" else []
        assert main(["labels", str(run_dir), *words, *more]) == 0
    assert "The labels of" in (said := capsys.readouterr().out)
    assert "food, games, travel now" in said
    names = {"sport": "games", "money": "food", "food": "food"}
    before = {line["id"]: line["label"] for line in read_lines(run_dir / "labels.jsonl")}

    given["loop"]["rounds"] = 1
    asked: list[str] = []

    def answer(api: Api, record: dict[str, Any]) -> None:
        asked.append(record["external_id"])
        api.answer(record["id"], label=names[GOLD[record["external_id"]]])

    with person(running, "annotator-1", run_dir, answer):
        run(given)
    assert pages_of(run_dir)["main"] != old
    assert len(asked) == 5
    assert not set(asked) & set(before)
    records = {one["external_id"]: one for one in running.api().records(pages_of(run_dir)["main"])}
    assert set(records) == set(before) | set(asked)
    for name, record in records.items():
        (response,) = record["responses"]
        assert response["values"]["label"]["value"] == names[GOLD[name]]
    assert main(["export", str(run_dir), "--csv", str(tmp_path / "labels.csv")]) == 0
    with (tmp_path / "labels.csv").open(encoding="utf-8-sig") as file:
        assert {row["id"]: row["label"] for row in csv.DictReader(file)} == {
            name: names[GOLD[name]] for name in records
        }
    newest = read_lines(run_dir / "labels.jsonl")
    assert {line["id"]: line["label"] for line in newest[:10]} == before  # what was written stays as it was


def test_doubtful_labels_go_back_to_whoever_gave_them(running, model, tmp_path, monkeypatch, capsys):
    rows = some_rows(80, seed=3, prefix="doubt-")
    gold = {row["id"]: row["label"] for row in rows}
    wrong = {row["id"] for row in rows[::9]}
    others = {"food": "money", "money": "sport", "sport": "food"}
    given = values(running, model, tmp_path, loop={"initial": 80, "rounds": 0})
    write_lines(Path(given["dataset"]["data_files"]["train"]), [{**row, "label": None} for row in rows])
    run_dir, again = Path(given["run_dir"]), set()

    def answer(api: Api, record: dict[str, Any]) -> None:
        name = record["external_id"]
        second = record["metadata"]["why"] == "doubt"
        again.update([name] if second else [])
        api.answer(record["id"], label=others[gold[name]] if name in wrong and not second else gold[name])

    with person(running, "annotator-1", run_dir, answer):
        run(given)
    monkeypatch.setenv("ARGILLA_API_KEY", running.home.api_key())
    capsys.readouterr()
    assert main(["review", str(run_dir), "--ask"]) == 0
    asked = {line["id"]: line["annotator"] for line in read_lines(run_dir / "asked_again.jsonl")}
    assert set(asked.values()) == {"annotator-1"}
    assert len(set(asked) & wrong) > 3
    assert f"Asked again: {len(asked)} of annotator-1." in capsys.readouterr().out
    with person(running, "annotator-1", run_dir, answer):
        end = time.monotonic() + 60
        while again != set(asked) and time.monotonic() < end:
            time.sleep(0.1)
    learner = ActiveLearner(read_config(given, Path.cwd()))
    learner.run()
    labels = learner.pool.labels()
    assert {name for name in labels if labels[name] != gold[name]} == wrong - set(asked)


def test_rows_that_come_later(running, model, tmp_path, capsys):
    given = values(running, model, tmp_path, loop={"rounds": 0})
    with person(running, "annotator-1", Path(given["run_dir"]), gold):
        run_dir = run(given)
        late = [{**row, "id": f"late-{row['id']}"} for row in some_rows(20, seed=5)]
        GOLD.update({row["id"]: row["label"] for row in late})
        with Path(given["dataset"]["data_files"]["train"]).open("a") as file:
            file.writelines(json.dumps({**row, "label": None}) + "\n" for row in late)
        capsys.readouterr()
        run(given)
        told = "20 rows of train are new since the last start; they are in the pool now. All rounds are done: raise "
        assert told in capsys.readouterr().out
        added = [line["id"] for line in read_lines(run_dir / "added.jsonl")]
        assert sorted(added) == sorted(row["id"] for row in late)
        given["loop"]["rounds"] = 4
        run(given)
    queries = [query["id"] for query in read_lines(run_dir / "queries.jsonl")]
    assert len(queries) == len(set(queries)) == 30
    assert any(name.startswith("late-") for name in queries)
    assert len(read_lines(run_dir / "added.jsonl")) == 20  # told and written once
