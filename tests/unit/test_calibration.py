"""One temperature for all of a model's probabilities: what it is, and what strategies see of it in a run."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines

from nlp_al.calibration import MOST, temperature
from nlp_al.config import read_config
from nlp_al.decisions import Decisions
from nlp_al.learner import ActiveLearner


def decided(probs: torch.Tensor, options: torch.Tensor | None = None) -> Decisions:
    return Decisions(probs, torch.arange(len(probs) + 1), options)


def test_a_model_that_says_nine_tenths_and_is_right_three_times_in_four() -> None:
    """(.9, .1) at T has (.75, .25) where ln 9 / T = ln 3: T = 2. And (.75, .25), right nine times in ten, T = ½."""
    often = decided(torch.tensor([[0.9, 0.1]]).double().expand(4, 2))
    assert temperature(often, torch.tensor([0, 0, 0, 1])) == pytest.approx(2.0)
    rather = decided(torch.tensor([[0.75, 0.25]]).double().expand(10, 2))
    assert temperature(rather, torch.tensor([0] * 9 + [1])) == pytest.approx(0.5)


def test_it_is_what_a_search_finds_and_undoes_a_factor_on_the_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3000, 4, generator=generator, dtype=torch.float64) * 2
    options = torch.randint(2, 5, (3000,), generator=generator)
    logits = logits.masked_fill(torch.arange(4) >= options[:, None], -torch.inf)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    found = {factor: temperature(decided((logits * factor).softmax(1), options), targets) for factor in (1.0, 2.5, 0.4)}
    assert found[1.0] == pytest.approx(1.0, abs=0.08)
    for factor in (2.5, 0.4):
        assert found[factor] == pytest.approx(factor * found[1.0], rel=1e-6)

    def loss(degree: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.clamp(min=-1e9) / degree, targets))

    assert loss(found[1.0]) <= min(loss(found[1.0] * by) for by in (0.99, 1.01))
    rubbish = logits.softmax(1).masked_fill(torch.arange(4) >= options[:, None], 7.0)
    assert temperature(decided(rubbish, options), targets) == pytest.approx(found[1.0])


def test_columns_that_are_no_option_count_for_nothing_however_soft_it_gets() -> None:
    """(.9, .1), right 555 times in 1,000: ln 9 / T = ln(555 / 445), so that T = 9.95."""
    probs = torch.tensor([[0.9, 0.1, *[0.0] * 6]]).double().expand(1000, 8)
    found = temperature(decided(probs, torch.full((1000,), 2)), torch.tensor([0] * 555 + [1] * 445))
    assert found == pytest.approx(math.log(9) / math.log(555 / 445), rel=1e-6)


def test_who_is_always_or_never_right_and_who_is_not_asked() -> None:
    sure = decided(torch.tensor([[0.8, 0.2], [0.7, 0.3]]))
    assert temperature(sure, torch.tensor([0, 0])) == pytest.approx(1 / MOST, rel=1e-3)
    assert temperature(sure, torch.tensor([1, 1])) == pytest.approx(MOST, rel=1e-3)
    assert temperature(decided(torch.zeros(0, 2)), torch.zeros(0, dtype=torch.int64)) == 1.0


ROWS = {
    "text-classification": some_rows,
    "token-classification": some_sentences,
    "response-selection": some_dialogues,
}


@pytest.mark.parametrize("held", [0, 30])
@pytest.mark.parametrize("task", ROWS)
def test_strategies_see_it_and_neither_committees_nor_metrics_do(task, held, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))
    model, rows = tiny_model(tmp_path / "model"), ROWS[task](40)
    seen = []
    for calibrate in (False, True):
        folder = tmp_path / str(calibrate)
        training, loop = {"calibrate": calibrate}, {"rounds": 0, "initial": 20}
        given = values_of(folder, model, rows, 0, task=task, strategy="bald", training=training, loop=loop)
        for split, count in {"validation": held, "test": 20}.items():
            if count:
                made = ROWS[task](count, 5, split[0])
                given["dataset"]["data_files"][split] = write_lines(folder / f"{split}.jsonl", made)
        learner = ActiveLearner(read_config(given, tmp_path))
        learner.run()
        with learner.opened():
            fields, fit = learner.fields, learner.fit
            said = fields.of(1, fit, learner.pool.examples, {"probs", "sampled", "embeddings"})
            judged = fields.of_validation(1, replace(fit), {"probs", "targets"})
            alone = fields.of(1, fit, learner.pool.examples, {"probs"})
        assert said is not None
        assert alone is not None
        assert judged is not None
        assert said.sampled is not None
        torch.testing.assert_close(said.probs, alone.probs)
        seen.append((said, read_lines(folder / "run" / "metrics.jsonl")[0]["test"], judged))
    (plain, scores, judged), (soft, also, _) = seen
    assert scores == also
    if task != "response-selection":  # where candidates count by their probability
        torch.testing.assert_close(plain.embeddings, soft.embeddings)
    torch.testing.assert_close(plain.sampled.mean, soft.sampled.mean)
    degree = temperature(judged.decisions, judged.targets)
    assert abs(degree - 1) > 0.02
    expected = (plain.decisions.masked.double().log() / degree).softmax(1)
    torch.testing.assert_close(soft.decisions.masked.double(), expected, atol=1e-5, rtol=1e-3)
