"""The report: what it says of runs written by hand, and that it says nothing it cannot know."""

import importlib.util
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from nlp_al import evaluation as ev
from nlp_al import report_stopping
from nlp_al.errors import RunError, UserError
from nlp_al.report import compare, read_study, verdicts, write_report

VOID = {"meta"}


def write_run(root: Path, strategy, seed: int, values, *, metric="accuracy", split="test", start=100, **config) -> Path:
    """A finished run: `values` are the metric's, a round each, at 100, 200, ... labels; the last line is torn."""
    name = strategy if isinstance(strategy, str) else strategy["name"]
    path = root / f"{re.sub('[^a-z]', '', name)}-{seed}"
    path.mkdir(parents=True)
    loop = {"initial": 100, "batch": 100, "rounds": len(values) - 1, "unit": "records", **config.pop("loop", {})}
    content = {"task": "text-classification", "model": "tiny", "dataset": {"path": "json"}, "strategy": strategy}
    YAML().dump({**content, "loop": {**loop, "seed": seed}, **config}, path / "config.yaml")
    with (path / "metrics.jsonl").open("w") as file:
        for number, value in enumerate(values):
            labels = start + 100 * number
            line = {"round": number, "labelled": labels, "answers": labels + 7, "cost": 10.0 * labels}
            spent = {"fit": 2.0, "score": 0.5, "select": 0.25, "annotate": 0.25}
            line |= {split: {metric: value, "f1_macro": value / 2}, "seconds": spent, "peak_memory_mb": 321}
            file.write(json.dumps(line) + "\n")
        file.write('{"round": 99, "labelled": 1')
    return path


def answered_run(root: Path, seed: int = 0) -> Path:
    """A run that ann and ben answer, still going on: a holdout, two rounds finished, every last line half written."""
    run = write_run(root, "badge", seed, (0.5, 0.75))
    rounds = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()[:2]]
    for entry in rounds:
        entry |= {"answers": 11, "holdout": entry["test"], "holdout_interval": {"accuracy": [0.5, 1.0]}}
    asked = [("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 1), ("f", 1), ("j", 2)]
    queries = [
        {"round": at, "id": name, "rank": 0, "score": None, "strategy": "holdout" if name in "defj" else "badge"}
        for name, at in asked
    ]
    given = [(name, label, "ann", "submitted") for name, label in zip("abcd", "xxyx", strict=True)]
    given += [(name, label, "ben", "submitted") for name, label in zip("abce", "xyyx", strict=True)]
    given += [("f", None, "ann", "discarded"), ("d", None, "ben", "discarded"), ("zz", "x", "dataset", "submitted")]
    given += [("f", "y", "ann", "submitted")]  # after the last round
    about = {"round": 0, "scope": None, "time": ""}
    answers = [{**about, "id": i, "label": o, "annotator": who, "status": s} for i, o, who, s in given]
    for name, lines in (("metrics", rounds), ("queries", [{**q, "batch": 3} for q in queries]), ("labels", answers)):
        whole = "".join(json.dumps(line) + "\n" for line in lines)
        (run / f"{name}.jsonl").write_text(whole + json.dumps(lines[-1])[:20])
    return run


def arms(root: Path, active, passive, seeds=6, shift=0.001) -> list[Path]:
    """`badge` and `random` over seeds; every seed moves both curves up by `shift`, and badge by a little of its own."""
    runs = [write_run(root, "badge", s, [v + s * shift * 1.1 for v in active]) for s in range(seeds)]
    return runs + [write_run(root, "random", s, [v + s * shift for v in passive]) for s in range(seeds)]


GOOD, FAIR, POOR = (0.5, 0.8, 0.9), (0.5, 0.7, 0.8), (0.5, 0.55, 0.6)


class Reader(HTMLParser):
    """Collects the tags and the visible text, and fails on a tag that is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "desc", "title"):
            self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    assert reader.open == []
    return reader


def text(path: Path) -> str:
    return " ".join(" ".join(read(path).text).split())


def cells(table: str, strategy: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(strategy + " ")]
    return re.split(r"\s{2,}", line.strip())


class TestTheFacts:
    def test_a_row_of_the_table_by_hand(self, tmp_path):
        runs = [write_run(tmp_path, "badge", 0, (0.5, 0.7, 0.8)), write_run(tmp_path, "badge", 1, (0.5, 0.8, 0.92))]
        # finals .8, .92: .86, sd .0849; areas (.6 + .75)/2 = .675, (.65 + .86)/2 = .755: .715, sd .0566
        assert cells(compare(runs), "badge") == ["badge", "2", "300", "0.860 ± 0.085", "0.715 ± 0.057", "3.0"]

    def test_labels_saved_by_hand(self, tmp_path):
        # random ends at .8, which badge has at its second point; all seeds are alike, so the interval is a point
        found = cells(compare(arms(tmp_path, GOOD, FAIR, shift=0)), "badge")
        assert found[6:] == ["200", "100", "100 to 100", "0.031"]

    def test_levels_that_random_starts_above_are_left_out(self, tmp_path):
        rows = read_study(arms(tmp_path, GOOD, (0.7, 0.75, 0.8), shift=0), None).rows
        assert [s.level for s in rows[1].savings] == pytest.approx([0.72, 0.76, 0.784, 0.8])

    def test_random_comes_first_and_is_compared_with_nothing(self, tmp_path):
        table = compare(arms(tmp_path, GOOD, FAIR))
        assert table.index("\nrandom ") < table.index("\nbadge ")
        assert cells(table, "random")[6:] == ["300", "–", "–", "–"]

    def test_areas_are_taken_where_all_runs_have_values(self, tmp_path):
        runs = [write_run(tmp_path, "badge", 0, (0.5, 0.7)), write_run(tmp_path, "random", 0, (0.5, 0.7, 0.9))]
        assert cells(compare(runs), "random")[4] == "0.600"
        assert "some ended well before the others: badge-0 at 200" in compare(runs)

    def test_settings_of_one_strategy_are_not_pooled(self, tmp_path):
        runs = [write_run(tmp_path / str(k), {"name": "margin", "keep": k}, 0, FAIR) for k in (10, 20)]
        assert [row.strategy for row in read_study(runs, None).rows] == ["margin(keep=10)", "margin(keep=20)"]

    def test_what_else_differs_between_the_runs_is_said(self, tmp_path):
        runs = [write_run(tmp_path, "badge", s, FAIR, training={"mode": ("full", "lora")[s]}) for s in (0, 1)]
        assert "differ in training.mode (full, lora)" in compare(runs)
        assert "loop.seed" not in compare(runs)

    def test_a_word_budget_counts_words(self, tmp_path):
        found = compare([write_run(tmp_path, "badge", 0, FAIR, loop={"unit": "words"})])
        assert "labelled words" in found
        assert cells(found, "badge")[2] == "3,000"

    @pytest.mark.parametrize(
        ("task", "metric", "panels"),
        [
            ("text-classification", "accuracy", ["accuracy", "f1_macro"]),
            ("token-classification", "f1", ["f1"]),
            ("response-selection", "mrr", ["mrr"]),
            ("somebody-elses", "bleu", ["bleu", "f1_macro"]),
        ],
    )
    def test_each_task_has_its_main_metric(self, tmp_path, task, metric, panels):
        assert read_study([write_run(tmp_path, "badge", 0, FAIR, metric=metric, task=task)], None).panels == panels

    def test_another_metric_on_request_comes_first(self, tmp_path):
        assert read_study([write_run(tmp_path, "badge", 0, FAIR)], "f1_macro").panels == ["f1_macro", "accuracy"]


class TestHonesty:
    def test_a_strategy_that_is_better_with_enough_seeds_is_called_so(self, tmp_path):
        (said,) = verdicts(read_study(arms(tmp_path, GOOD, FAIR), None))
        assert said.startswith("badge: better than random (AUBC +0.07")

    def test_five_seeds_cannot_show_it_and_the_page_says_so(self, tmp_path):
        (said,) = verdicts(read_study(arms(tmp_path, GOOD, FAIR, seeds=5), None))
        assert said.startswith("badge: ahead of random on average, but not shown to be better")
        assert "5 seeds cannot settle it (p is 0.0625 at best): 6 could." in said

    def test_p_is_adjusted_for_the_number_of_strategies(self, tmp_path):
        runs = [*arms(tmp_path, GOOD, FAIR), *(write_run(tmp_path, "margin", s, GOOD) for s in range(6))]
        assert cells(compare(runs), "badge")[-1] == "0.062"  # 2 · 2/64
        assert "6 seeds cannot settle it (p is 0.0625 at best): 7 could." in compare(runs)

    def test_a_strategy_that_is_worse_is_called_so_and_its_level_is_not_reached(self, tmp_path):
        table = compare(arms(tmp_path, POOR, FAIR))
        assert "- badge: worse than random (AUBC -0.1" in table
        assert re.search(r"did not reach random's final accuracy of 0\.80\d within 300 labelled examples\.", table)
        assert cells(table, "badge")[6:8] == ["> 300 (not reached)", "not reached"]

    def test_no_difference_is_not_better(self, tmp_path):
        (said,) = verdicts(read_study(arms(tmp_path, FAIR, FAIR, shift=0), None))
        assert said.startswith("badge: not better than random (AUBC +0.000")

    def test_more_labels_needed_is_a_cost_not_a_saving(self, tmp_path):
        table = compare(arms(tmp_path, (0.5, 0.6, 0.9), (0.5, 0.8, 0.8), shift=0))
        assert re.search(r"random at 200: it needed \d+ more", table)

    def test_one_seed_has_no_interval_and_no_p_and_few_are_called_few(self, tmp_path):
        table = compare(arms(tmp_path, GOOD, FAIR, seeds=1))
        assert "nothing tells it from chance" in table
        assert "Fewer than 5 seeds: intervals are rough" in compare(arms(tmp_path / "few", GOOD, FAIR, seeds=3))
        assert "One seed only, so no interval: random, badge." in table
        assert cells(table, "badge")[3:5] == ["0.900", "0.750"]
        assert cells(table, "badge")[-2:] == ["–", "–"]

    def test_seeds_that_do_not_pair_are_not_tested(self, tmp_path):
        runs = [write_run(tmp_path, "badge", s, GOOD) for s in (0, 1)]
        runs += [write_run(tmp_path, "random", s, FAIR) for s in (2, 3)]
        assert cells(compare(runs), "badge")[-2:] == ["–", "–"]

    def test_without_random_nothing_is_said_of_savings(self, tmp_path):
        runs = [write_run(tmp_path, name, 0, FAIR) for name in ("badge", "margin")]
        table, _ = compare(runs).split("No run with strategy random is among these")  # there, and once
        assert "labels saved " not in table

    def test_the_split_is_test_else_validation_else_holdout_and_is_said(self, tmp_path):
        assert "scores on the validation split" in compare([write_run(tmp_path, "badge", 0, FAIR, split="validation")])
        assert "scores on the holdout split" in compare([write_run(tmp_path, "badge", 1, FAIR, split="holdout")])
        assert "accuracy on the test split" in compare([write_run(tmp_path, "badge", 2, FAIR)])

    def test_one_finished_round_has_no_area(self, tmp_path):
        table = compare([write_run(tmp_path, name, s, [0.5]) for name in ("badge", "random") for s in (0, 1)])
        assert cells(table, "badge")[4] == "–"
        assert "not compared by AUBC" in table


needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason='needs pip install "nlp-al[report]"'
)


@needs_matplotlib
class TestThePage:
    def test_where_it_is_written(self, tmp_path):
        runs = arms(tmp_path / "runs", GOOD, FAIR, seeds=1)
        assert write_report(runs) == tmp_path / "runs" / "report.html"
        assert write_report(runs[:1]) == runs[0] / "report.html"
        assert write_report(runs, tmp_path / "new" / "page.html") == tmp_path / "new" / "page.html"
        assert (tmp_path / "new" / "page.html").is_file()

    def test_it_fetches_nothing_and_runs_nothing(self, tmp_path):
        path = write_report(arms(tmp_path, GOOD, FAIR, seeds=2))
        content, reader = path.read_text(), read(path)
        assert not re.search(r"https?:|url\((?!#)|@import", content)
        assert not {tag for tag, _ in reader.tags} & {"script", "link", "img", "iframe", "object"}
        links = [v for _, attrs in reader.tags for k, v in attrs.items() if k in ("src", "href", "xlink:href")]
        assert {link[0] for link in links} == {"#"}

    def test_every_reference_inside_it_has_one_target(self, tmp_path):
        reader = read(write_report(arms(tmp_path, GOOD, FAIR, seeds=2)))
        ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
        used = {attrs["xlink:href"][1:] for _, attrs in reader.tags if "xlink:href" in attrs}
        assert (len(ids), used - set(ids)) == (len(set(ids)), set())

    def test_it_says_what_the_terminal_says(self, tmp_path):
        runs = arms(tmp_path, GOOD, FAIR)
        said, table = text(write_report(runs)), compare(runs)
        for sentence in verdicts(read_study(runs, None)):
            assert sentence.split(": ", 1)[1] in said
        assert all(cell in said for cell in cells(table, "badge"))

    def test_a_figure_a_metric_with_a_title_and_words_for_those_who_cannot_see_it(self, tmp_path):
        path = write_report(arms(tmp_path, GOOD, FAIR, shift=0))
        figures = [attrs for tag, attrs in read(path).tags if tag == "svg" and attrs.get("role") == "img"]
        assert [f["aria-label"] for f in figures] == [
            "accuracy against labelled examples",
            "f1_macro against labelled examples",
            "At random's final accuracy, labelled examples saved",
        ]
        assert (
            "<desc>accuracy, first to last point: random 0.500 to 0.800; badge 0.500 to 0.900.</desc>"
            in path.read_text()
        )

    def test_the_legend_names_every_strategy_in_its_own_colour(self, tmp_path):
        content = write_report(arms(tmp_path, GOOD, FAIR, seeds=2)).read_text()
        legend = re.search(r'<ul class="legend">(.*?)</ul>', content, re.DOTALL)[1]
        assert [set(re.findall(r"var\((--s\d)\)", item)) for item in legend.split("</li>")[:2]] == [{"--s0"}, {"--s1"}]

    def test_both_themes_colour_every_variable(self, tmp_path):
        content = write_report([write_run(tmp_path, "badge", 0, FAIR)]).read_text()
        light, dark = content.split("prefers-color-scheme:dark")
        used = set(re.findall(r"var\((--\w+)\)", content))
        assert used <= set(re.findall(r"(--\w+):#", light))
        assert used <= set(re.findall(r"(--\w+):#", dark))

    def test_rounds_of_a_single_run(self, tmp_path):
        said = text(write_report([write_run(tmp_path, "badge", 0, FAIR)]))
        assert "round labelled answers cost accuracy f1_macro fit s score s select s annotate s peak MB" in said
        assert "1 200 207 2,000 0.700 0.350 2.0 0.5 0.2 0.2 321" in said

    def test_rounds_of_several_runs_by_strategy(self, tmp_path):
        runs = [write_run(tmp_path, "badge", 0, (0.5, 0.7)), write_run(tmp_path, "badge", 1, (0.5, 0.9))]
        assert "round labelled examples badge 0 100 0.500 ± 0.000 1 200 0.800 ± 0.141" in text(write_report(runs))

    def test_the_final_model_has_its_own_numbers(self, tmp_path):
        run = write_run(tmp_path, "badge", 0, FAIR)
        assert "Final models" not in text(write_report([run]))
        (run / "final.json").write_text(json.dumps({"round": 2, "labelled": 300, "test": {"accuracy": 0.8765}}))
        assert "badge-0 badge 0 test 2 300 0.876" in text(write_report([run]))

    def test_what_comes_from_files_is_escaped(self, tmp_path):
        evil = "<script>alert(1)</script>$x$"
        run = write_run(tmp_path, evil, 0, FAIR, metric=evil, model=evil, dataset={"path": evil}, task=evil)
        other = write_run(tmp_path, "random", 0, FAIR, metric=evil, model=evil, dataset={"path": evil}, task=evil)
        path = write_report([run, other])
        assert "<script" not in path.read_text()
        assert text(path).count(evil) > 5
        assert re.search(r"<text[^>]*>&lt;script&gt;alert\(1\)&lt;/script&gt;\$x\$</text>", path.read_text())
        assert evil + " against" in {a.get("aria-label", "")[: len(evil) + 8] for _, a in read(path).tags}

    def test_the_same_runs_give_the_same_page(self, tmp_path):
        runs = arms(tmp_path, GOOD, FAIR, seeds=3)
        assert write_report(runs).read_bytes() == write_report(runs).read_bytes()

    def test_more_strategies_than_colours_still_look_different(self, tmp_path):
        names = [f"strategy{c}" for c in "abcdefghijklm"]
        content = write_report([write_run(tmp_path, name, 0, FAIR) for name in names]).read_text()
        legend = re.search(r'<ul class="legend">(.*?)</ul>', content, re.DOTALL)[1]
        looks = [re.sub(r'(id|xlink:href)="[^"]*"|url\([^)]*\)|>[^<]*$', "", item) for item in legend.split("</li>")]
        assert len(set(looks[:-1])) == len(names)


@needs_matplotlib
class TestPeople:
    def test_the_report_of_one_run_leads_with_its_holdout(self, tmp_path):
        run = answered_run(tmp_path)
        content = write_report([run]).read_text()
        assert re.findall(r"<h2>(.*?)</h2>", content)[0] == "Are we done?"
        assert content.index("Are we done?") < content.index("<dl>")
        said = text(run / "report.html")
        assert (
            "Are we done? accuracy 0.750 95% interval 0.500 to 1.000 This is the score of the model of round 1" in said
        )
        assert (
            "fitted on 200 labels, on the 2 texts of the holdout. It is an unbiased estimate for all your data" in said
        )
        assert "drawn at random and never trained on" in said
        assert "fewer than 30 texts" in said
        # Held out were d, e, f in these rounds, and j after them; f was discarded.
        assert "1 more text was drawn and had no label by then" in said
        assert "Of 7 questions so far 6 are answered, 1 waits." in said

    def test_of_several_runs_or_without_a_holdout_it_does_not(self, tmp_path):
        assert "Are we done?" not in text(write_report([write_run(tmp_path, "badge", 0, FAIR)]))
        runs = [answered_run(tmp_path / "first"), write_run(tmp_path, "badge", 1, FAIR)]
        assert "Are we done?" not in text(write_report(runs))

    def test_the_final_model_s_own_score_goes_before_that_of_the_last_round(self, tmp_path):
        run = answered_run(tmp_path)
        final = {"round": 1, "labelled": 200, "answers": 99, "holdout": {"accuracy": 0.5, "f1_macro": 0.5}}
        (run / "final.json").write_text(json.dumps({**final, "holdout_interval": {"accuracy": [0.5, 0.5]}}))
        said = text(write_report([run]))
        assert "accuracy 0.500 95% interval 0.500 to 0.500 This is the score of the final model, fitted on 200" in said
        assert "on the 3 texts of the holdout" in said
        assert "The interval has no width" in said
        (run / "final.json").write_text(json.dumps({**final, "round": 0}))
        assert "This is the score of the model of round 1" in text(write_report([run]))

    def test_with_all_answered_nothing_waits(self, tmp_path):
        run = answered_run(tmp_path)
        (run / "queries.jsonl").write_text("".join((run / "queries.jsonl").read_text().splitlines(keepends=True)[:6]))
        assert "All 6 questions so far are answered." in text(write_report([run]))

    def test_people_in_a_table_and_how_far_they_agree(self, tmp_path):
        said = text(write_report([answered_run(tmp_path)]))
        # a: x x, b: x y, c: y y. Different values: 2/1, by chance 18/5.
        assert (
            "Annotators 3 examples were labelled by several people; 0.67 of the pairs of labels are the same." in said
        )
        assert "Krippendorff's alpha is 0.44. Alpha is 1 where all agree" in said
        assert "person submitted discarded same label as the others" in said
        assert "ann 5 0 0.67 of 3 ben 4 1 0.67 of 3 Round by round" in said

    def test_people_of_several_runs_are_told_apart(self, tmp_path):
        runs = [answered_run(tmp_path, seed) for seed in (0, 1)]
        said = text(write_report(runs))
        assert said.count("Krippendorff's alpha is 0.44.") == 2
        assert said.count("Alpha is 1 where all agree") == 1
        assert "person run submitted discarded same label as the others ann badge-0 5 0" in said
        assert "ann badge-1 5 0 0.67 of 3 ben badge-1 4 1 0.67 of 3" in said

    def test_one_person_or_none_has_no_section(self, tmp_path):
        run = answered_run(tmp_path)
        lines = (run / "labels.jsonl").read_text()
        for other in ("oracle", "dataset", "ann"):
            (run / "labels.jsonl").write_text(lines.replace('"ben"', f'"{other}"'))
            assert "Annotators" not in text(write_report([run]))

    def test_people_who_share_no_example(self, tmp_path):
        run = answered_run(tmp_path)
        lines = (run / "labels.jsonl").read_text().splitlines(keepends=True)
        (run / "labels.jsonl").write_text("".join(line for line in lines if re.search('"id": "[de]"', line)))
        said = text(write_report([run]))
        assert "No example was labelled by more than one person" in said
        assert "Alpha is" not in said

    def test_names_of_people_are_escaped(self, tmp_path):
        run = answered_run(tmp_path)
        lines = (run / "labels.jsonl").read_text()
        (run / "labels.jsonl").write_text(lines.replace('"ben"', '"<script>ben"'))
        assert "<script" not in write_report([run]).read_text()


class TestBadInput:
    def test_no_run_at_all_or_a_folder_that_is_none(self, tmp_path):
        with pytest.raises(UserError, match="at least one run"):
            compare([])
        with pytest.raises(UserError, match=f"{tmp_path}: this is not a run directory"):
            write_report([tmp_path])

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"task": "token-classification"}, "task is token-classification, but that of .*badge-0 is text-classif"),
            ({"dataset": {"path": "csv"}}, "dataset is path csv, but that of .*badge-0 is path json"),
            ({"loop": {"unit": "words"}}, "loop.unit is words, but that of .*badge-0 is records"),
            ({"split": "validation"}, "has no metrics on a split"),
            ({"start": 5000}, "starts where another run has already ended"),
        ],
    )
    def test_runs_that_cannot_be_compared(self, tmp_path, change, said):
        first, second = write_run(tmp_path, "badge", 0, FAIR), write_run(tmp_path, "badge", 1, FAIR, **change)
        with pytest.raises(UserError, match=said) as caught:
            compare([first, second])
        assert str(caught.value).startswith(str(second))
        assert "\n" not in str(caught.value)

    def test_unlike_metrics(self, tmp_path):
        first, second = (write_run(tmp_path, "badge", s, FAIR, metric=m) for s, m in enumerate(("mrr", "accuracy")))
        for run in (first, second):
            file = run / "metrics.jsonl"
            file.write_text(re.sub(r', "f1_macro": [\d.]+', "", file.read_text()))
        with pytest.raises(UserError, match=r"badge-1: no metric in common with .*badge-0 .* it has accuracy"):
            compare([first, second])

    def test_a_metric_that_is_not_there(self, tmp_path):
        with pytest.raises(UserError, match="no metric mrr on the test split; it has accuracy, f1_macro"):
            compare([write_run(tmp_path, "badge", 0, FAIR)], "mrr")

    def test_the_same_run_twice(self, tmp_path):
        run = write_run(tmp_path, "badge", 0, FAIR)
        with pytest.raises(UserError, match="strategy badge with seed 0 is there already"):
            compare([run, run])

    def test_without_matplotlib_one_sentence_says_how_to_get_it(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        run = write_run(tmp_path, "badge", 0, FAIR)
        with pytest.raises(RunError, match=r'pip install "nlp-al\[report\]"'):
            write_report([run])
        assert not (run / "report.html").exists()
        assert "badge" in compare([run])


def test_the_module_stays_light():
    code = "import sys, nlp_al.report; print({'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_noise_of_an_identical_twin_is_not_called_better(tmp_path):
    rng = np.random.default_rng(0)
    names = [("random", s) for s in range(8)] + [("badge", s) for s in range(8)]
    runs = [write_run(tmp_path, n, s, np.add(FAIR, rng.normal(0, 0.01, 3)).tolist()) for n, s in names]
    assert ": better than random" not in compare(runs)


def test_the_data_is_told_by_its_fingerprint_where_there_is_one(tmp_path):
    first = write_run(tmp_path, "random", 0, FAIR, dataset={"path": "json", "data_files": "a.jsonl"})
    second = write_run(tmp_path, "badge", 0, FAIR, dataset={"path": "json", "data_files": "/far/a.jsonl"})
    for run in (first, second):
        (run / "environment.json").write_text('{"dataset_fingerprint": "f00"}')
    assert "badge" in compare([first, second])
    (second / "environment.json").write_text('{"dataset_fingerprint": "ba5"}')
    with pytest.raises(UserError, match="dataset is of fingerprint ba5"):
        compare([first, second])


class TestWhereRulesStop:
    """Round 1 to 5 at 200 to 600 labels; accuracy on test .5, .7, .9, .85, .95, .94."""

    KAPPAS = (None, 0.5, 0.98, 0.99, 0.999, 1.0)  # over three rounds .9897 after round 4, .9963 after 5

    def watched(self, root: Path, seed: int = 0, kappas=KAPPAS, strategy="badge", **config) -> Path:
        run = write_run(root, strategy, seed, (0.5, 0.7, 0.9, 0.85, 0.95, 0.94), **config)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()[:6]]
        for at, line in enumerate(lines):
            line["stop"] = {"mean_entropy": 0.5 - at / 10, "max_entropy": 0.9, "max_doubt": 0.4}
            line["stop"] |= {} if kappas[at] is None else {"kappa": [kappas[at]]}
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    def rows(self, runs: list[Path]) -> dict[str, list[str]]:
        found = text(write_report(runs, runs[0] / "out.html"))
        table = found[found.index("Where each rule would have stopped") :]
        names = ["kappa_average", "stabilising_predictions_f", "overall_uncertainty", "max_uncertainty"]
        return {
            name: row.split()[:7]
            for name in names
            for row in re.findall(rf"{name} ((?:badge|random) .*?)(?= (?:[a-z_]+ (?:badge|random) )| Round| $)", table)
        }

    @needs_matplotlib
    def test_a_row_by_hand(self, tmp_path):
        found = self.rows([self.watched(tmp_path)])
        assert found["kappa_average"] == ["badge", "1", "of", "1", "5", "600", "0.940"]
        # κ .98, .99, .999: 4(1 − κ)/κ is .0816, .0404, .0040, on average .0420 after round 4
        assert found["stabilising_predictions_f"] == ["badge", "1", "of", "1", "4", "500", "0.950"]
        assert found["overall_uncertainty"][:6] == ["badge", "1", "of", "1", "5", "600"]
        assert found["max_uncertainty"][:5] == ["badge", "0", "of", "1", "–"]

    def test_regret_and_what_was_saved_by_hand(self, tmp_path):
        run = ev.read_run(self.watched(tmp_path))
        found = report_stopping.stops(run, "accuracy", "test")
        stop = found["stabilising_predictions_f"]
        assert (stop.round, stop.spent, stop.score, stop.saved) == (4, 500, 0.95, 100)
        assert stop.regret == pytest.approx(0.0)
        assert found["kappa_average"].regret == pytest.approx(0.01)
        assert found["kappa_average"].saved == 0
        assert found["max_uncertainty"] is None
        # Nothing of these was observed, and scores of a test set are no scores to a rule.
        assert not {"selected_accuracy", "classification_change", "performance_plateau", "target"} & set(found)

    @needs_matplotlib
    def test_runs_of_a_strategy_are_counted_together(self, tmp_path):
        late = (None, 0.5, 0.5, 0.5, 0.5, 0.5)
        runs = [self.watched(tmp_path, 0), self.watched(tmp_path, 1, kappas=late), self.watched(tmp_path, 2)]
        assert self.rows(runs)["kappa_average"][:6] == ["badge", "2", "of", "3", "5", "600"]

    @needs_matplotlib
    def test_the_rule_of_the_config_has_a_row_of_its_own(self, tmp_path):
        rule = {"any": [{"name": "kappa_average", "threshold": 0.6, "window": 2}, {"name": "max_uncertainty"}]}
        run = self.watched(tmp_path, stop={"rule": rule})
        name = "any(kappa_average(threshold=0.6, window=2), max_uncertainty)"
        assert report_stopping.stops(ev.read_run(run), "accuracy", "test")[name].round == 2
        assert name in text(write_report([run]))
        usual = self.watched(tmp_path / "usual", stop={"rule": {"name": "kappa_average"}})
        assert len(report_stopping.stops(ev.read_run(usual), "accuracy", "test")) == 4

    def test_rules_on_scores_read_validation(self, tmp_path):
        run = self.watched(tmp_path)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line["validation"] = {"accuracy": min(0.8, line["test"]["accuracy"])}
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        found = report_stopping.stops(ev.read_run(run), "accuracy", "test")
        assert found["performance_plateau"].round == 5  # .8 after round 2 and after round 5
        assert found["performance_plateau"].score == 0.94

    @needs_matplotlib
    def test_nothing_is_said_where_nothing_was_observed(self, tmp_path):
        assert "would have stopped" not in text(write_report([write_run(tmp_path, "badge", 0, FAIR)]))
