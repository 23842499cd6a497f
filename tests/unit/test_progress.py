"""What a run prints beside its table."""

from types import SimpleNamespace

import pytest

from nlp_al.progress import Progress


@pytest.fixture
def progress():
    return Progress(SimpleNamespace(), SimpleNamespace(), enabled=True)


def test_each_round_tells_how_many_answers_are_there(progress, capsys):
    for round_ in (1, 2):
        for missing in (5, 5, 3):
            progress.waiting(round_, missing, 5)
    told = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert told == [f"round {r}: {n} of 5 answered" for r in (1, 2) for n in (0, 2)]


@pytest.mark.parametrize(("only", "known"), [("ham", "every label so far is 'ham'"), (None, "no label has come yet")])
def test_why_there_is_no_final_model(progress, capsys, only, known):
    progress.no_final(only)
    assert capsys.readouterr().out.strip() == (
        f"No final model: {known}, and a model needs two classes; ask for more labels."
    )


def test_other_processes_keep_silent(capsys):
    Progress(SimpleNamespace(), SimpleNamespace(), enabled=False).no_final("ham")
    assert capsys.readouterr().out == ""
