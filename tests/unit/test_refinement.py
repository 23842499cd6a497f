"""What people made of the model's guesses: the edits, and what a run tells of them."""

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import read_lines, some_rows, some_sentences, tiny_model, values_of

from nlp_al.annotation import ANNOTATORS, Annotator, Question, make_annotator
from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer, Example, Pool
from nlp_al.refinement import Edits, Refinement, edits, refinement, span_edits, told, told_guesses, whole_rounds
from nlp_al.relabel import Change
from nlp_al.tasks import make_task

PER, LOC = "PER", "LOC"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([(0, 2, PER)], [(0, 3, PER), (5, 6, LOC)], Edits(added=1, moved=1)),
        ([(0, 2, PER)], [(0, 2, PER)], Edits()),
        ([(0, 2, PER)], [], Edits(removed=1)),
        ([(0, 2, PER)], [(0, 2, LOC)], Edits(changed=1)),
        ([(0, 2, PER)], [(1, 3, LOC)], Edits(moved=1, changed=1)),
        ([(0, 2, PER)], [(2, 3, PER)], Edits(added=1, removed=1)),
        ([(0, 4, PER)], [(0, 1, PER), (1, 4, PER)], Edits(added=1, moved=1)),  # one is cut in two
        ([(0, 2, PER), (2, 6, LOC)], [(1, 6, LOC)], Edits(removed=1, moved=1)),  # the larger overlap is the same entity
    ],
)
def test_edits_of_entities(before, after, expected):
    assert span_edits(before, after) == expected
    assert span_edits(after, before) == Edits(expected.removed, expected.added, expected.moved, expected.changed)


def test_the_distance_is_no_more_than_taking_all_out_and_putting_all_in():
    draw = random.Random(0)
    for _ in range(500):
        one, other = (
            {(at, at + draw.randint(1, 3), draw.choice([PER, LOC])) for at in range(0, 12, 3) if draw.random() < 0.7}
            for _ in range(2)
        )
        found = span_edits(one, other)
        assert found.distance <= len(one ^ other)
        assert len(one) - found.removed == len(other) - found.added
        assert (found.distance == 0) == (one == other)


def test_edits_by_task():
    tags = make_task("token-classification", {}).with_labels(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    assert edits(tags, ["B-PER", "I-PER", "O", "O", "O", "O"], ["B-PER", "I-PER", "I-PER", "O", "O", "B-LOC"]) == Edits(
        added=1, moved=1
    )
    several = make_task("text-classification", {"multi_label": True}).with_labels(["a", "b", "c"])
    assert edits(several, ["a", "b"], ["b", "c"]) == Edits(added=1, removed=1)
    assert edits(several, ["a", "b"], ["b", "a"]) == Edits()
    assert edits(make_task("text-classification", {}).with_labels(["a", "b"]), "a", "b") == Edits(changed=1)
    assert edits(make_task("response-selection", {}), 0, 0) == Edits()


def pool(*answers: Answer) -> Pool:
    return Pool([Example(name, "text", 1) for name in "abcdef"], answers=list(answers))


def lines(**guesses) -> list[dict]:
    return [{"id": name, "label": label, "answers": 2} for name, label in guesses.items()]


def test_three_of_four_are_accepted():
    task = make_task("text-classification", {}).with_labels(["x", "y"])
    answers = [
        *(Answer(name, "x", "ana") for name in "abc"),
        Answer("d", "x", "ana"),
        Answer("d", "y", "ana"),  # the last one counts
        Answer("e", None, "ana", "discarded"),
        Answer("f", "x", "ana"),  # without a guess
        Answer("a", "y", "oracle"),
    ]
    found = refinement(lines(a="x", b="x", c="x", d="x", e="x"), pool(*answers), task)
    assert found == Refinement(4, 3, Edits(changed=1))
    assert found.acceptance == 0.75
    assert told(found) == "3 of 4 guesses accepted as they were (0.75); edits: 1 changed"
    assert refinement(lines(a="x"), pool(), task) is None
    assert refinement([], pool(*answers), task) is None


def test_a_guess_is_read_in_today_s_labels():
    task = make_task("text-classification", {}).with_labels(["x", "z"])
    answers = pool(Answer("a", "z", "ana"))
    for at, accepted in ((1, 0), (2, 1), (3, 1)):  # only what was renamed after it was shown
        renamed = [Change("rename", ("y",), "z", "", at)]
        assert refinement(lines(a="y"), answers, task, renamed).accepted == accepted


def test_what_is_said_without_seeing_the_guess_is_counted_apart():
    task = make_task("text-classification", {}).with_labels(["x", "y"])
    answers = pool(*(Answer(name, label, "ana") for name, label in zip("abcdef", "xxyxyx", strict=True)))
    given = [{**line, "shown": line["id"] in "abc"} for line in lines(a="x", b="x", c="x", d="x", e="x", f="y")]
    assert refinement(given, answers, task) == Refinement(3, 2, Edits(changed=1))
    assert refinement(given, answers, task, shown=False) == Refinement(3, 1, Edits(changed=2))
    assert told_guesses(given, answers, task) == {
        "guesses": "2 of 3 guesses accepted as they were (0.67); edits: 1 changed",
        "control": "of 3 answers given without seeing the guess 1 say the same (0.33)",
    }
    assert list(told_guesses(given[:3], answers, task)) == ["guesses"]
    assert list(told_guesses(given[3:], answers, task)) == ["control"]


def test_in_a_simulation_the_gold_label_is_known():
    task = make_task("text-classification", {}).with_labels(["x", "z"])
    answers = pool(*(Answer(name, label, "oracle") for name, label in zip("abcd", "xxzx", strict=True)))
    given = [
        {"id": name, "label": "x", "answers": 0, "shown": name != "d", "gold": gold}
        for name, gold in zip("abcd", "xyyx", strict=True)
    ]
    changes = [Change("rename", ("y",), "z", "", 0)]
    assert refinement(given, answers, task, changes) == Refinement(3, 2, Edits(changed=1), right=2)
    assert told_guesses(given, answers, task, changes) == {
        "guesses": "2 of 3 guesses accepted as they were (0.67); edits: 1 changed; 2 of 3 are right (0.67)",
        "control": "of 1 answer given without seeing the guess 1 say the same (1.00); 1 of 1 are right (1.00)",
    }
    people = pool(*(Answer(name, "x", "ana") for name in "ab"))
    unknown = [{k: v for k, v in given[0].items() if k != "gold"}, given[1]]
    assert refinement(unknown, people, task, changes).right is None  # that of one of them is not known


def test_a_round_is_whole_with_all_its_lines():
    made = [{"round": at, "batch": 2} for at in (1, 1, 2)]
    assert whole_rounds(made) == {1}
    assert whole_rounds([{"round": 3}, *made, {"round": 2, "batch": 2}]) == {1, 2, 3}


@dataclass
class Ana(Annotator):
    """Accepts what she is shown, but for every third record; what she was shown is in `seen`."""

    control: float = 0.0

    @property
    def wants(self) -> frozenset[str]:
        return frozenset({"suggestion"})

    def start(self, setting) -> None:
        super().start(setting)
        self.seen: dict[str, object] = {}
        self.said: dict[str, Answer] = {}

    def push(self, questions) -> None:
        for one in questions:
            self.seen.setdefault(one.example.id, one.suggestion if one.shows(self.setting.task) else None)
            guess = self.seen[one.example.id]
            label = guess if guess is not None and len(self.said) % 3 else self.gold[one.example.id]
            self.said.setdefault(one.example.id, Answer(one.example.id, label, "ana"))

    def pull(self) -> list[Answer]:
        return list(self.said.values())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_a_run_keeps_what_people_were_shown(tmp_path, model, monkeypatch, capsys, task):
    words = task == "token-classification"
    rows = some_sentences(60) if words else some_rows(60)
    column = "tags" if words else "label"
    monkeypatch.setattr(Ana, "gold", {row["id"]: row[column] for row in rows}, raising=False)
    monkeypatch.setitem(ANNOTATORS, "ana", Ana)
    bare = [{k: v for k, v in row.items() if k != column} for row in rows]
    labels = ["X"] if words else ["food", "money", "sport"]
    loop = {"initial": 20, "batch": 10, "rounds": 2, "holdout": 0.1}
    values = values_of(tmp_path, model, bare, test=0, task=task, labels=labels, loop=loop, annotator="ana")
    learner = ActiveLearner(read_config(values, Path.cwd()))
    learner.run()
    ana, run = learner.annotator, Path(values["run_dir"])
    kept = read_lines(run / "suggestions.jsonl")
    assert {line["id"]: line["label"] for line in kept} == {k: v for k, v in ana.seen.items() if v is not None}
    assert {line["answers"] for line in kept} == {20, 30}
    assert not {line["id"] for line in kept} & learner.pool.held
    capsys.readouterr()
    accepted = sum(ana.said[line["id"]].label == line["label"] for line in kept)
    expected = f"{accepted} of {len(kept)} guesses accepted as they were ({accepted / len(kept):.2f})"
    assert main(["status", str(run)]) == 0
    assert f"guesses  {expected}" in capsys.readouterr().out
    if importlib.util.find_spec("matplotlib") is not None:
        assert main(["report", str(run)]) == 0
        assert expected in (run / "report.html").read_text()
    published: list = []
    monkeypatch.setattr(ana, "push", published.extend)
    with learner.opened():
        learner.answers.publish(learner.pool.queries, learner.fit.model, learner._generator("suggestions"))
    assert len(published) == 40
    again = read_lines(run / "suggestions.jsonl")
    assert again[: len(kept)] == kept
    assert len({line["id"] for line in again}) == len(again)


def people_of_a_run(folder: Path, model: str, monkeypatch, seed: int = 0, **loop: int) -> dict:
    """The values of a run whose questions Ana answers, half of them without a guess."""
    rows = some_rows(120)
    monkeypatch.setattr(Ana, "gold", {row["id"]: row["label"] for row in rows}, raising=False)
    monkeypatch.setitem(ANNOTATORS, "ana", Ana)
    bare = [{k: v for k, v in row.items() if k != "label"} for row in rows]
    loop = {"initial": 20, "batch": 40, "rounds": 2, "seed": seed, **loop}
    annotator = {"name": "ana", "control": 0.5}
    return values_of(
        folder,
        model,
        bare,
        test=0,
        labels=["food", "money", "sport"],
        loop=loop,
        annotator=annotator,
        strategy="random",
    )


def test_a_share_of_the_guesses_is_kept_back(tmp_path, model, monkeypatch, capsys):
    """Drawn by the run's seed, whatever else is asked; the page sees nothing of them, and everything is as it was after
    the lines of a batch were cut short."""
    drawn: dict[int, dict[str, bool]] = {}
    rounds: dict[int, dict[str, int]] = {}
    for seed in (0, 1):
        values = people_of_a_run(tmp_path / str(seed), model, monkeypatch, seed)
        learner = ActiveLearner(read_config(values, Path.cwd()))
        learner.run()
        kept = read_lines(Path(values["run_dir"]) / "suggestions.jsonl")
        assert [line["batch"] for line in kept] == [40] * 80
        drawn[seed] = {line["id"]: line["shown"] for line in kept}
        rounds[seed] = {line["id"]: line["round"] for line in kept}
        assert {name: guess is not None for name, guess in learner.annotator.seen.items() if name in drawn[seed]} == (
            drawn[seed]
        )
        assert 25 <= sum(drawn[seed].values()) <= 55
    both = [name for name in drawn[0] if rounds[0][name] == rounds[1].get(name)]
    assert any(drawn[0][name] != drawn[1][name] for name in both)
    capsys.readouterr()
    assert main(["status", values["run_dir"]]) == 0
    said = capsys.readouterr().out
    assert f"control  of {80 - sum(drawn[1].values())} answers given without seeing the guess " in said
    assert f" of {sum(drawn[1].values())} guesses accepted as they were" in said

    file = Path(values["run_dir"]) / "suggestions.jsonl"
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:50]))
    with learner.opened():
        model_of_round = learner.fit.model
        queries = learner.pool.round_queries(2)
        learner.answers.publish(queries, model_of_round, learner._generator("suggestions"))
    again = read_lines(file)
    assert {line["id"]: line["shown"] for line in again} == drawn[1]
    assert file.read_bytes().splitlines(keepends=True)[:50] == whole[:50]
    assert len(again) == 80


def test_what_was_published_keeps_its_guess(tmp_path, model, monkeypatch):
    """Also of a model that knows more by now; and the initial set, asked without one, gets none."""
    values = people_of_a_run(tmp_path, model, monkeypatch)
    learner = ActiveLearner(read_config(values, Path.cwd()))
    learner.run()
    seen, published = learner.annotator.seen, []
    monkeypatch.setattr(learner.annotator, "push", published.extend)
    before = (Path(values["run_dir"]) / "suggestions.jsonl").read_bytes()
    with learner.opened():
        learner.answers.publish(learner.pool.queries, learner.fit.model, learner._generator("suggestions"))
    assert {one.example.id: one.suggestion for one in published} == seen
    assert sum(guess is not None for guess in seen.values()) > 20
    assert (Path(values["run_dir"]) / "suggestions.jsonl").read_bytes() == before


def test_a_simulated_person_who_is_drawn_towards_guesses(tmp_path, model, capsys):
    rows = some_rows(200)
    gold = {row["id"]: row["label"] for row in rows}
    annotator = {"name": "oracle", "anchoring": 1.0, "control": 0.3}
    loop = {"initial": 10, "batch": 90, "rounds": 1}
    values = values_of(tmp_path, model, rows, test=0, loop=loop, annotator=annotator, strategy="random")
    ActiveLearner(read_config(values, Path.cwd())).run()
    run = Path(values["run_dir"])
    answers = {line["id"]: line["label"] for line in read_lines(run / "labels.jsonl")}
    kept = {line["id"]: line for line in read_lines(run / "suggestions.jsonl")}
    for name, label in answers.items():
        line = kept.get(name)
        assert label == (line["label"] if line is not None and line["shown"] else gold[name])
        assert line is None or line["gold"] == gold[name]
    shown = [line for line in kept.values() if line["shown"]]
    hidden = [line for line in kept.values() if not line["shown"]]
    right = sum(line["label"] == line["gold"] for line in shown)
    same = sum(line["label"] == line["gold"] for line in hidden)
    assert 15 <= len(hidden) <= 40
    assert right < len(shown)
    capsys.readouterr()
    assert main(["status", str(run)]) == 0
    said = capsys.readouterr().out
    count = len(shown)
    accepted = f"guesses  {count} of {count} guesses accepted as they were (1.00)"
    assert f"{accepted}; {right} of {count} are right ({right / count:.2f})\n" in said
    count = len(hidden)
    apart = f"control  of {count} answers given without seeing the guess {same} say the same ({same / count:.2f})"
    assert f"{apart}; {count} of {count} are right (1.00)\n" in said


def test_an_oracle_that_sees_no_guess_says_what_it_said_before(tmp_path, model):
    given = {}
    for name, annotator in (("plain", {}), ("drawn", {"anchoring": 0.5})):
        loop = {"initial": 10, "batch": 40, "rounds": 1}
        own = {"name": "oracle", "noise": 0.2, "refusals": 0.1, **annotator}
        rows = some_rows(60)
        values = values_of(tmp_path / name, model, rows, test=0, loop=loop, annotator=own, strategy="random")
        ActiveLearner(read_config(values, Path.cwd())).run()
        given[name] = {line["id"]: line["label"] for line in read_lines(Path(values["run_dir"]) / "labels.jsonl")}
        guesses = {line["id"]: line["label"] for line in read_lines(Path(values["run_dir"]) / "suggestions.jsonl")}
    changed = {name for name, label in given["plain"].items() if given["drawn"][name] != label}
    assert changed
    assert all(given["drawn"][name] == guesses[name] for name in changed)
    assert not (tmp_path / "plain" / "run" / "suggestions.jsonl").exists()


def test_the_words_that_a_guess_hangs_on(tmp_path, model, monkeypatch):
    values = people_of_a_run(tmp_path, model, monkeypatch, batch=10, rounds=1)
    monkeypatch.setattr(Ana, "wants", frozenset({"suggestion", "explanation"}))
    learner = ActiveLearner(read_config(values, Path.cwd()))
    published: list = []
    push = learner.annotator.push
    monkeypatch.setattr(learner.annotator, "push", lambda asked: (published.extend(asked), push(asked)))
    learner.run()
    kept = {line["id"]: line for line in read_lines(Path(values["run_dir"]) / "suggestions.jsonl")}
    assert len(kept) == 10
    for one in published:
        line = kept.get(one.example.id)
        if line is None or not line["shown"]:
            assert one.salient is None
            continue
        assert one.salient == line["salient"]
        assert set(one.salient) <= set(one.example.inputs.split())
        assert 1 <= len(one.salient) <= 5
    assert any(one.salient for one in published)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"control": 1.5}, "control is 1.5; it must lie between 0 and 1"),
        ({"explain": True, "suggestions": False}, "explain is true, but suggestions is false"),
    ],
)
def test_wrong_parameters_are_told(given, says):
    with pytest.raises(UserError, match=says):
        make_annotator("argilla", given)


def test_a_guess_of_nothing_is_not_shown():
    words = make_task("token-classification", {}).with_labels(["O", "B-X", "I-X"])
    several = make_task("text-classification", {"multi_label": True}).with_labels(["x"])
    for task, inputs, nothing, something in (
        (words, ["a", "b"], ["O", "O"], ["O", "B-X"]),
        (several, "a b", [], ["x"]),
        (make_task("response-selection", {}), {"context": ["a"], "candidates": ["b", "c"]}, None, 0),
    ):
        asked = [Question(Example("e", inputs, 2), 1, 0, suggestion=one) for one in (None, nothing, something)]
        assert [one.shows(task) for one in asked] == [False, False, True]
