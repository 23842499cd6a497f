"""People behind files: what a question and an answer look like in each task, and files that editors leave behind."""

import json
import time
from pathlib import Path

import pytest
from helpers import read_lines, some_rows, tiny_model, values_of, write_lines

from nlp_al.annotation import Question, Setting, jsonl, make_annotator
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer, Example
from nlp_al.tasks import make_task

LABELS = ["food", "money", "sport"]
DIALOGUE = {"context": ["hi", "how are you?"], "candidates": ["fine", "blue", "seven"]}


def started(folder: Path, name="text-classification", labels=("x", "y"), **options):
    task = make_task(name, options).with_labels(labels)
    annotator = make_annotator("jsonl", {})
    annotator.start(Setting(task, dict.fromkeys(labels, ""), folder))
    return annotator


def write(folder: Path, text: str) -> None:
    (folder / "answers.jsonl").write_bytes(text.encode())


def pulled(annotator) -> list[tuple]:
    return [(answer.id, answer.label) for answer in annotator.pull()]


# Questions and answers of each task


@pytest.mark.parametrize(
    ("task", "options", "labels", "inputs", "shown", "right", "wrong"),
    [
        ("text-classification", {}, LABELS, "big match", {"text": "big match"}, ["sport"], ["sprot", 2, ["sport"]]),
        (
            "text-classification",
            {"multi_label": True},
            LABELS,
            "bread and tax",
            {"text": "bread and tax"},
            [["money", "food"], [], ["sport"]],
            ["food", ["food", "food"], ["sprot"], [1]],
        ),
        (
            "token-classification",
            {},
            ["O", "B-LOC", "I-LOC"],
            ("To", "Berlin"),
            {"tokens": ["To", "Berlin"]},
            [["O", "B-LOC"]],
            [["O"], "O", ["O", "B-PER"], ["O", "O", "O"], [0, 1]],
        ),
        ("response-selection", {}, [], DIALOGUE, DIALOGUE, [0, 2], [3, -1, "1", 1.0, True, "none", [1]]),
        ("response-selection", {"none_of_these": "none of these"}, [], DIALOGUE, DIALOGUE, [1, "none"], [3, "fine"]),
    ],
    ids=["text", "multi-label", "ner", "response", "response or none"],
)
def test_a_question_and_its_answers(tmp_path, task, options, labels, inputs, shown, right, wrong):
    annotator = started(tmp_path, task, labels, **options)
    example = Example("7", inputs, 2)
    annotator.push([Question(example, 1, 0, 0.5)])
    assert read_lines(tmp_path / "questions.jsonl") == [{"id": "7", "round": 1, "rank": 0, **shown}]
    given = [*right, *wrong]
    write_lines(tmp_path / "answers.jsonl", [{"id": 7, "label": label} for label in given])
    assert annotator.pull() == [Answer("7", label, "jsonl") for label in given]
    task = annotator.setting.task
    assert [task.readable(answer.label, example) for answer in annotator.pull()] == [True] * len(right) + [False] * len(
        wrong
    )


def test_questions_pile_up_and_a_batch_that_comes_again_adds_none(tmp_path):
    annotator = started(tmp_path)
    batches = [[Question(Example(f"{round_}{rank}", "tëxt", 1), round_, rank) for rank in (0, 1)] for round_ in (0, 1)]
    for batch in (*batches, batches[1]):
        annotator.push(batch)
    assert [line["id"] for line in read_lines(tmp_path / "questions.jsonl")] == ["00", "01", "10", "11"]
    assert [path.name for path in tmp_path.iterdir()] == ["questions.jsonl"]


def test_who_answers_and_how(tmp_path):
    annotator = started(tmp_path)
    lines = [
        {"id": "a", "label": "x"},
        {"id": "a", "label": "y", "annotator": "ann", "status": "draft"},
        {"id": "a", "annotator": 0, "status": "skipped"},
        {"id": "a", "label": "", "annotator": "", "status": "discarded"},
        {"id": "a", "label": "y", "annotator": None, "status": None, "comment": "sure"},
    ]
    write_lines(tmp_path / "answers.jsonl", lines)
    assert annotator.pull() == [
        Answer("a", "x", "jsonl"),
        Answer("a", "y", "ann", "draft"),
        Answer("a", None, "0", "skipped"),
        Answer("a", None, "jsonl", "discarded"),
        Answer("a", "y", "jsonl"),
    ]


# Lines that are no answer


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "[1]",
        '"a"',
        "null",
        '{"label": "x"}',
        '{"id": true, "label": "x"}',
        '{"id": ["a"], "label": "x"}',
        '{"id": "", "label": "x"}',
        '{"id": "a", "label": "x", "status": "done"}',
        '{"id": "a", "label": "x", "annotator": ["ann"]}',
        '{"id": "a", "label": NaN, "status": "draft"}',
        '{"id": "a", "label": 1e999, "status": "draft"}',
        r'{"id": "a", "label": "x", "annotator": "\ud800"}',
        '{"id": %s, "label": "x"}' % ("1" * 5000),
        "[" * 100_000,
        '{"id": "a", "label": "x"} {"id": "b", "label": "x"}',
    ],
    ids=lambda line: line[:40],
)
def test_a_line_that_is_no_answer_is_told_once_with_its_place(tmp_path, capsys, line):
    annotator = started(tmp_path)
    for more in ("", '{"id": "c", "label": "x"}\n', f"{line}\n"):
        write(tmp_path, f'{{"id": "b", "label": "y"}}\n{line}\n{more}')
        assert ("b", "y") in pulled(annotator)
        assert ("a", "x") not in pulled(annotator)
    told = capsys.readouterr().out
    assert told == f'{tmp_path}/answers.jsonl line 2 is passed over: an answer is {{"id": ..., "label": ...}}.\n'


def test_a_file_of_another_kind_is_not_told_line_by_line(tmp_path, capsys):
    annotator = started(tmp_path)
    write(tmp_path, "".join(f"{at},x\n" for at in range(1000)))
    assert pulled(annotator) == []
    told = capsys.readouterr().out.splitlines()
    assert len(told) == jsonl.MOST_TOLD + 1
    assert told[-1] == f"{tmp_path}/answers.jsonl: 980 more lines like these are passed over."


def test_half_a_line_is_waited_for(tmp_path, capsys):
    annotator = started(tmp_path)
    whole = '{"id": "a", "label": "x"}\n{"id": "é", "label": "y"}\n'.encode()
    first = whole.index(b"\n") + 1
    for size in range(len(whole) + 1):
        (tmp_path / "answers.jsonl").write_bytes(whole[:size])
        # A line is an answer from its last brace on, newline or not.
        assert len(pulled(annotator)) == (size >= first - 1) + (size >= len(whole) - 1)
    assert capsys.readouterr().out == ""


# What editors do


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_marks_of_editors(tmp_path, capsys, end, mark):
    annotator = started(tmp_path)
    write(tmp_path, mark + end.join(["", '{"id": "a", "label": "ä\u2028b"}', " ", '{"id": "b", "label": "y"}']))
    assert pulled(annotator) == [("a", "ä\u2028b"), ("b", "y")]
    assert capsys.readouterr().out == ""


def test_a_file_that_is_put_in_the_place_of_another(tmp_path):
    annotator = started(tmp_path)
    assert pulled(annotator) == []
    write(tmp_path, '{"id": "a", "label": "x"}\n')
    assert pulled(annotator) == [("a", "x")]
    before = (tmp_path / "answers.jsonl").stat()
    (tmp_path / "answers.jsonl").rename(tmp_path / "answers.jsonl~")
    assert pulled(annotator) == []  # between an editor's two steps
    (tmp_path / "new").write_text('{"id": "a", "label": "y"}\n')  # of the same size
    (tmp_path / "new").rename(tmp_path / "answers.jsonl")
    assert (tmp_path / "answers.jsonl").stat().st_size == before.st_size
    assert pulled(annotator) == [("a", "y")]


def test_a_file_that_goes_while_it_is_looked_at(tmp_path, monkeypatch):
    annotator = started(tmp_path)
    write(tmp_path, '{"id": "a", "label": "x"}\n')
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: path.unlink() or real(path))
    assert pulled(annotator) == []
    monkeypatch.undo()
    write(tmp_path, '{"id": "a", "label": "x"}\n')
    assert pulled(annotator) == [("a", "x")]


def test_a_large_file_is_read_again_only_when_it_has_changed(tmp_path, monkeypatch):
    annotator = started(tmp_path)
    lines = "".join(f'{{"id": "{at}", "label": "x", "annotator": "somebody"}}\n' for at in range(60_000))
    write(tmp_path, lines)
    assert (tmp_path / "answers.jsonl").stat().st_size > 2_000_000
    reads = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or real(path))
    start = time.perf_counter()
    assert len(annotator.pull()) == 60_000
    assert time.perf_counter() - start < 10  # 0.5 s where nothing else runs
    assert len(annotator.pull()) == len(annotator.pull()) == 60_000
    assert len(reads) == 1
    with (tmp_path / "answers.jsonl").open("a") as file:
        file.write('{"id": "0", "label": "y"}\n')
    assert len(annotator.pull()) == 60_001
    assert len(reads) == 2


# What the learner makes of it


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


def run(tmp_path: Path, model: str, monkeypatch, says, **loop) -> Path:
    """A run whose pauses are filled with answers: says(questions, pause) are the lines that it adds."""
    rows = [{**row, "label": None} for row in some_rows(30)]
    given = values_of(tmp_path, model, rows, 0, labels=LABELS, annotator={"name": "jsonl"}, loop={"rounds": 0, **loop})
    run_dir, pauses = Path(given["run_dir"]), []

    def answer(_: float) -> None:
        pauses.append(len(pauses))
        lines = says(read_lines(run_dir / "questions.jsonl"), pauses[-1])
        with (run_dir / "answers.jsonl").open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    monkeypatch.setattr(time, "sleep", answer)
    config = read_config(given, Path("/"))
    ActiveLearner(config).run()
    return run_dir


def test_annotators_who_disagree(tmp_path, model, monkeypatch):
    """The majority, and on a tie who answered first; a later word of one counts in the place of the earlier one."""
    votes = [
        (["food"], "food"),
        (["food", "sport"], "food"),
        (["food", "sport", "sport"], "sport"),
        (["food", "sport", "money"], "food"),
    ]

    def says(questions, pause):
        if pause == 0:  # the last two, who would make the first batch complete, think again
            rest = [{"id": q["id"], "label": "money"} for q in questions[len(votes) : -2]]
            voted = zip(questions, votes, strict=False)
            return [
                {"id": q["id"], "label": v, "annotator": f"p{at}"} for q, (vs, _) in voted for at, v in enumerate(vs)
            ] + rest
        first, second = questions[-2:]
        lines = [{"id": first["id"], "label": label, "annotator": who} for who, label in ("af", "bs", "cs")]
        names = {"f": "food", "s": "sport"}
        lines = [{**line, "label": names[line["label"]]} for line in lines]
        return [
            *lines,
            {"id": first["id"], "label": "food", "annotator": "c"},  # c changes sides
            {"id": second["id"], "label": "food", "annotator": "a", "status": "discarded"},
            {"id": second["id"], "label": "money", "annotator": "b"},
        ]

    run_dir = run(tmp_path, model, monkeypatch, says)
    given = values_of(tmp_path, model, [{**row, "label": None} for row in some_rows(30)], 0, labels=LABELS)
    given |= {"annotator": {"name": "jsonl"}, "loop": {"initial": 10, "rounds": 0}}
    learner = ActiveLearner(read_config(given, Path("/")))
    with learner.opened():
        labels = learner.pool.labels()
    asked = [line["id"] for line in read_lines(run_dir / "queries.jsonl")]
    assert [labels[name] for name in asked] == [v for _, v in votes] + ["money"] * 4 + ["food", "money"]


def test_unknown_ids_are_told_once(tmp_path, model, monkeypatch, capsys):
    def says(questions, pause):
        strange = [{"id": f"n{at}", "label": "food"} for at in range(25)] if pause == 1 else []
        done = questions[:4] if pause < 3 else questions
        return [
            {"id": "nope", "label": "food"},
            *strange,
            *({"id": q["id"], "label": LABELS[q["rank"] % 3]} for q in done),
        ]

    run_dir = run(tmp_path, model, monkeypatch, says)
    told = [line for line in capsys.readouterr().out.splitlines() if "has no such id" in line]
    assert told[0].strip() == "Answers to 'nope' are passed over: the train split has no such id."
    assert told[1].count("'n") == 20
    assert ", ... are passed over" in told[1]
    assert len(told) == 2
    assert len(read_lines(run_dir / "labels.jsonl")) == 10


def test_an_answer_that_is_changed_after_the_last_round_is_in_the_final_model(tmp_path, model, monkeypatch):
    def says(questions, pause):
        return [{"id": q["id"], "label": LABELS[q["rank"] % 3]} for q in questions]

    run_dir = run(tmp_path, model, monkeypatch, says)
    asked = [line["id"] for line in read_lines(run_dir / "queries.jsonl")]
    with (run_dir / "answers.jsonl").open("a") as file:
        file.write(json.dumps({"id": asked[0], "label": LABELS[1]}) + "\n")
        file.write(json.dumps({"id": asked[1], "label": None, "status": "retracted"}) + "\n")
    given = values_of(tmp_path, model, [{**row, "label": None} for row in some_rows(30)], 0, labels=LABELS)
    given |= {"annotator": {"name": "jsonl"}, "loop": {"initial": 10, "rounds": 0}}
    given["training"] = {"mode": "frozen", "final": "full", "min_steps": 2, "num_train_epochs": 1}
    learner = ActiveLearner(read_config(given, Path("/")))
    learner.run()
    final = json.loads((run_dir / "final.json").read_text())
    assert (final["answers"], final["labelled"]) == (12, 9)
    assert learner.pool.labels()[asked[0]] == LABELS[1]
