"""Evaluation: every number here is small enough to be worked out by hand, or comes from a slower second way."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from nlp_al.errors import UserError
from nlp_al.evaluation import (
    Curve,
    aubc,
    below_zero,
    common_range,
    constants,
    crossing,
    final_metric,
    holm,
    isotonic,
    label_savings,
    labels_to_reach,
    learning_curve,
    mean_curve,
    metric_names,
    read_run,
    sign_flip_test,
    strategy_name,
)


def curve(x, y, seed=0, strategy="badge") -> Curve:
    return Curve(strategy, seed, np.array(x, dtype=float), np.array(y, dtype=float))


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def write_run(path: Path, lines: list[str], config="task: text-classification\nstrategy: badge\nloop: {seed: 3}\n"):
    path.mkdir()
    (path / "config.yaml").write_text(config)
    (path / "metrics.jsonl").write_text("".join(lines))
    return path


def line(number, labelled, accuracy, **more) -> str:
    return json.dumps({"round": number, "labelled": labelled, "test": {"accuracy": accuracy}, **more}) + "\n"


class TestReading:
    def test_a_run_becomes_a_curve_of_its_seed_and_strategy(self, tmp_path):
        run = read_run(write_run(tmp_path / "r", [line(0, 10, 0.5), line(1, 20, 0.75)]))
        found = learning_curve(run, "accuracy", "test")
        assert (found.strategy, found.seed, list(found.x), list(found.y)) == ("badge", 3, [10, 20], [0.5, 0.75])

    @pytest.mark.parametrize("torn", ['{"round": 2, "labelled": 30, "te', "\x00\x00\x00", '{"round": 2}'[:-1] + "\n"])
    def test_a_torn_last_line_is_ignored(self, tmp_path, torn):
        run = read_run(write_run(tmp_path / "r", [line(0, 10, 0.5), line(1, 20, 0.75), torn]))
        assert [entry["round"] for entry in run.rounds] == [0, 1]

    def test_a_whole_last_line_counts_even_without_its_newline(self, tmp_path):
        run = read_run(write_run(tmp_path / "r", [line(0, 10, 0.5), line(1, 20, 0.75).rstrip()]))
        assert len(run.rounds) == 2

    def test_a_broken_line_in_the_middle_is_an_error_that_names_it(self, tmp_path):
        with pytest.raises(UserError, match=r"metrics\.jsonl: line 2 is not JSON"):
            read_run(write_run(tmp_path / "r", [line(0, 10, 0.5), "{oops\n", line(2, 20, 0.75)]))

    def test_a_line_that_lacks_its_labels_is_an_error(self, tmp_path):
        with pytest.raises(UserError, match="line 1 lacks a number under 'round' or 'labelled'"):
            read_run(write_run(tmp_path / "r", ['{"round": 0, "test": {"accuracy": 0.5}}\n']))

    def test_a_round_that_was_run_again_counts_as_it_came_out_last(self, tmp_path):
        run = read_run(write_run(tmp_path / "r", [line(0, 10, 0.5), line(1, 20, 0.6), line(1, 20, 0.7)]))
        assert list(learning_curve(run, "accuracy", "test").y) == [0.5, 0.7]

    def test_rounds_with_the_same_labels_are_one_point_the_last(self, tmp_path):
        run = read_run(write_run(tmp_path / "r", [line(0, 10, 0.5), line(1, 20, 0.6), line(2, 20, 0.7)]))
        assert list(learning_curve(run, "accuracy", "test").x) == [10, 20]
        assert list(learning_curve(run, "accuracy", "test").y) == [0.5, 0.7]

    def test_a_word_budget_is_read_from_cost(self, tmp_path):
        config = "strategy: badge\nloop: {unit: words}\n"
        run = read_run(write_run(tmp_path / "r", [line(0, 2, 0.5, cost=31), line(1, 4, 0.6, cost=64.0)], config))
        assert list(learning_curve(run, "accuracy", "test").x) == [31, 64]

    def test_only_finite_numbers_are_metrics(self, tmp_path):
        odd = {"round": 0, "labelled": 9, "test": {"f1": float("nan"), "interval": [0, 1], "mrr": 0.5, "ok": True}}
        run = read_run(write_run(tmp_path / "r", [json.dumps(odd) + "\n"]))
        assert metric_names(run, "test") == ["mrr"]
        assert metric_names(run, "holdout") == []

    def test_a_folder_that_is_no_run_is_named(self, tmp_path):
        with pytest.raises(UserError, match=f"{tmp_path}: this is not a run directory"):
            read_run(tmp_path)

    def test_a_run_before_its_first_round_is_named(self, tmp_path):
        with pytest.raises(UserError, match="r: no round of this run is finished yet"):
            read_run(write_run(tmp_path / "r", []))

    @pytest.mark.parametrize("config", ["a: [", "just words", ""])
    def test_a_config_that_cannot_be_read_is_named(self, tmp_path, config):
        with pytest.raises(UserError, match=r"r: config\.yaml"):
            read_run(write_run(tmp_path / "r", [line(0, 1, 0.5)], config))

    @pytest.mark.parametrize(
        ("entry", "name"),
        [
            ("badge", "badge"),
            ({"name": "badge"}, "badge"),
            ([{"name": "margin", "keep": 500}, {"name": "badge"}], "margin(keep=500) → badge"),
            ({"name": "seals", "base": {"name": "margin"}}, "seals(base=margin)"),
        ],
    )
    def test_two_settings_of_a_strategy_have_two_names(self, entry, name):
        assert strategy_name(entry) == name


class TestCurves:
    def test_aubc_of_the_fixture(self):
        # 100·(.6 + .75 + .825) / 300
        assert aubc(curve([100, 200, 300, 400], [0.5, 0.7, 0.8, 0.85])) == pytest.approx(0.725)

    def test_aubc_weighs_by_distance_not_by_point(self):
        # (10·.5 + 90·.5) / 100, where the plain mean of the points is 1/3
        assert aubc(curve([0, 10, 100], [0, 1, 0])) == pytest.approx(0.5)

    def test_aubc_within_bounds_interpolates_their_ends(self):
        # from 50 to 150 of the line .5 → .7 → .8: (.6+.7)/2·50 + (.7+.75)/2·50, over 100
        assert aubc(curve([0, 100, 200], [0.5, 0.7, 0.8]), 50, 150) == pytest.approx(0.6875)

    def test_aubc_of_one_point_is_undefined(self):
        assert np.isnan(aubc(curve([10], [0.5])))

    def test_the_final_metric_is_the_last_not_the_best(self):
        assert final_metric(curve([1, 2, 3], [0.5, 0.9, 0.8])) == 0.8

    def test_the_mean_has_a_t_interval(self):
        # sd of (.5, .6, .7) is .1; t(.975, 2 df) = 4.302653; half = 4.302653·.1/√3 = .248414
        found = mean_curve([curve([10], [v], s) for s, v in enumerate((0.5, 0.6, 0.7))])
        assert found.y[0] == pytest.approx(0.6)
        assert found.high[0] - found.y[0] == pytest.approx(0.248414, abs=1e-5)
        assert found.y[0] - found.low[0] == pytest.approx(0.248414, abs=1e-5)

    def test_one_seed_has_no_interval(self):
        found = mean_curve([curve([10, 20], [0.5, 0.6])])
        assert found.seeds == 1
        assert np.isnan(found.low).all()
        assert np.isnan(found.high).all()

    def test_seeds_on_different_points_meet_where_all_have_values(self):
        found = mean_curve([curve([10, 20, 30], [0.1, 0.2, 0.3]), curve([15, 25], [0.5, 0.7], 1)])
        assert list(found.x) == [15, 20, 25]
        assert found.y == pytest.approx([(0.15 + 0.5) / 2, (0.2 + 0.6) / 2, (0.25 + 0.7) / 2])

    def test_seeds_that_never_meet_are_refused(self):
        with pytest.raises(ValueError, match="no range"):
            common_range([curve([1, 2], [0, 0]), curve([3, 4], [0, 0])])


class TestCrossing:
    def test_isotonic_pools_a_dip_by_hand(self):
        assert isotonic(np.array([0.5, 0.8, 0.6, 0.9])) == pytest.approx([0.5, 0.7, 0.7, 0.9])

    def test_isotonic_agrees_with_pooling_adjacent_violators(self):
        rows = np.random.default_rng(1).normal(size=(200, 13)) + np.linspace(0, 2, 13)
        assert isotonic(rows) == pytest.approx(np.stack([isotonic_regression(row).x for row in rows]))

    def test_a_level_is_inverted_in_log_labels_and_log_error(self):
        # err = 1/n, so accuracy .995 is error .005: exactly 200 labels. Between 100 and 400 a straight line says 300
        low, high = crossing(np.array([100.0, 400.0]), np.array([[0.99, 0.9975]]), 0.995)
        assert (low[0], high[0]) == (pytest.approx(200), pytest.approx(200))

    def test_a_perfect_score_is_inverted_linearly_for_it_has_no_log(self):
        low, _ = crossing(np.array([100.0, 400.0]), np.array([[0.5, 1.0]]), 0.75)
        assert low[0] == pytest.approx(np.sqrt(100 * 400))  # half-way in log labels

    def test_the_first_crossing_counts_and_a_plateau_begins_at_its_start(self):
        reach = labels_to_reach([curve([100, 200, 300, 400], [0.5, 0.7, 0.7, 0.9])], 0.7)
        assert (reach.x, reach.flag) == (pytest.approx(200), "exact")

    def test_a_lucky_peak_is_not_a_crossing(self):
        # .8 at 200 falls back to .6: the monotone fit holds .7 there, and .75 comes only after 300
        reach = labels_to_reach([curve([100, 200, 300, 400], [0.5, 0.8, 0.6, 0.9])], 0.75)
        assert 300 < reach.x < 400

    def test_a_level_that_is_not_reached_is_a_lower_bound_at_the_last_point(self):
        reach = labels_to_reach([curve([100, 200], [0.5, 0.6])], 0.7)
        assert (reach.x, reach.flag) == (200, "lower_bound")

    def test_a_level_that_the_start_already_has_is_an_upper_bound(self):
        reach = labels_to_reach([curve([100, 200], [0.5, 0.6])], 0.4)
        assert (reach.x, reach.flag) == (100, "upper_bound")

    def test_a_start_exactly_at_the_level_is_a_value(self):
        reach = labels_to_reach([curve([100, 200], [0.5, 0.5])], 0.5)
        assert (reach.x, reach.flag) == (100, "exact")

    def test_a_one_round_run_only_bounds(self):
        assert labels_to_reach([curve([100], [0.5])], 0.6).flag == "lower_bound"
        assert labels_to_reach([curve([100], [0.5])], 0.4).flag == "upper_bound"

    def test_a_mean_reaches_its_own_last_value_despite_rounding(self):
        seeds = [curve([1, 2, 3], [0.1, 0.2, last], s) for s, last in enumerate((0.1 + 0.2, 0.7, 0.3))]
        level = float(np.mean([c.y[-1] for c in seeds]))
        assert labels_to_reach(seeds, level).flag == "exact"


class TestLabelSavings:
    X = (100, 200, 400, 800)

    def arm(self, constant, seeds=1, noise=0.0):
        rng = np.random.default_rng(int(constant * 100))
        return [
            curve(self.X, [1 - constant * np.exp(noise * rng.normal()) / n for n in self.X], s) for s in range(seeds)
        ]

    @pytest.mark.parametrize("error", [0.004, 0.002, 0.0015])
    def test_a_constant_of_four_tenths_needs_two_and_a_half_times_fewer_labels(self, error):
        (found,) = label_savings(self.arm(0.4), self.arm(1.0), [1 - error], generator())
        assert found.flag == "exact"
        assert found.ratio == pytest.approx(2.5, rel=0.01)
        assert found.saved == pytest.approx(1 / error - 0.4 / error, rel=0.01)

    def test_one_seed_has_no_interval(self):
        (found,) = label_savings(self.arm(0.4), self.arm(1.0), [0.996], generator())
        assert found.ratio_interval is None
        assert found.saved_interval is None

    def test_twins_save_nothing_exactly(self):
        arm = self.arm(1.0, seeds=5, noise=0.3)
        (found,) = label_savings(arm, arm, [0.996], generator())
        assert (found.ratio, found.saved) == (1, 0)
        assert found.ratio_interval == (1, 1)  # paired: every resample draws the same seeds for both arms

    def test_unrelated_noise_of_one_curve_has_one_inside_its_interval(self):
        first, second = self.arm(1.0, seeds=6, noise=0.3), self.arm(1.001, seeds=6, noise=0.3)
        second = [Curve("x", c.seed, c.x, first[5 - c.seed].y) for c in second]  # the same curves, paired otherwise
        (found,) = label_savings(first, second, [0.996], generator())
        assert found.ratio_interval is not None
        assert found.ratio_interval[0] < 1 < found.ratio_interval[1]

    def test_the_interval_is_that_of_a_slow_paired_bootstrap(self):
        active, passive = self.arm(0.4, seeds=4, noise=0.1), self.arm(1.0, seeds=4, noise=0.1)
        (found,) = label_savings(active, passive, [0.9975], generator(), resamples=400)
        ratios = []
        for draw in generator().integers(4, size=(400, 4)):
            needs = [labels_to_reach([arm[i] for i in draw], 0.9975) for arm in (passive, active)]
            assert {need.flag for need in needs} == {"exact"}
            ratios.append(needs[0].x / needs[1].x)
        ratios.sort()
        assert found.ratio_interval == pytest.approx((ratios[int(0.025 * 399)], ratios[int(np.ceil(0.975 * 399))]))

    def test_the_same_generator_gives_the_same_interval(self):
        arms = self.arm(0.4, seeds=4, noise=0.3), self.arm(1.0, seeds=4, noise=0.3)
        assert label_savings(*arms, [0.996], generator()) == label_savings(*arms, [0.996], generator())

    def test_seeds_without_a_partner_are_left_out(self):
        active, passive = self.arm(0.4, seeds=3), self.arm(1.0, seeds=3)
        stray = curve(self.X, [0, 0, 0, 0], seed=9)
        (found,) = label_savings([*active, stray], passive, [0.996], generator())
        assert found.ratio == pytest.approx(2.5, rel=0.01)

    def test_a_level_the_strategy_misses_bounds_its_saving_from_above(self):
        # random needs 250 for error .004; the strategy is not there at 800: less than 250/800, fewer than -550
        (found,) = label_savings(self.arm(4.0, 3), self.arm(1.0, 3), [0.996], generator())
        assert (found.strategy.flag, found.strategy.x) == ("lower_bound", 800)
        assert (found.flag, found.ratio, found.saved) == (
            "upper_bound",
            pytest.approx(250 / 800),
            pytest.approx(-550),
        )
        assert found.saved_interval == (-np.inf, pytest.approx(-550))
        assert found.ratio_interval == (0, pytest.approx(250 / 800))

    def test_a_level_random_misses_bounds_the_saving_from_below(self):
        (found,) = label_savings(self.arm(0.4, 3), self.arm(1.0, 3), [0.999], generator())  # 400 against more than 800
        assert (found.flag, found.ratio, found.saved) == ("lower_bound", pytest.approx(2), pytest.approx(400))
        assert found.saved_interval == (pytest.approx(400), np.inf)

    @pytest.mark.parametrize("level", [0.5, 0.99999])
    def test_a_level_outside_both_curves_says_nothing(self, level):
        (found,) = label_savings(self.arm(0.4, 3), self.arm(1.0, 3), [level], generator())
        assert found.flag == "unknown"
        assert np.isnan(found.ratio)
        assert np.isnan(found.saved)


class TestSignificance:
    def test_five_agreeing_seeds_reach_the_smallest_p_there_is(self):
        assert sign_flip_test(np.array([0.1, 0.2, 0.1, 0.3, 0.2]), generator()) == 2 / 32

    def test_p_by_hand(self):
        # |±3 ±1 ±2| ≥ |3 - 1 + 2| = 4 for ±(3,1,2) = 6 and ±(3,-1,2) = 4: four of eight
        assert sign_flip_test(np.array([3.0, -1.0, 2.0]), generator()) == 0.5

    def test_no_difference_is_p_one(self):
        assert sign_flip_test(np.zeros(5), generator()) == 1

    def test_random_flips_agree_with_the_normal_law(self):
        # 100 differences of 1 and 60 of -1 (centred scale 1): z = 40/√160 = 3.162, p ≈ .0021
        p = sign_flip_test(np.array([1.0] * 100 + [-1.0] * 60), generator(), flips=20_000)
        assert p == pytest.approx(0.002, abs=0.0015)
        assert p > 0

    def test_holm_by_hand(self):
        # sorted .01·3, .02·2, .04·1, each at least its predecessor
        assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
        assert holm([0.5, 0.6]) == [1, 1]
        assert holm([]) == []


def test_below_zero_allows_for_the_number_of_tests():
    # Over 3 degrees of freedom the 2.5% quantile is −3.18, and that for six tests −5.4. These have t = −2 and −4.
    spread = np.array([-1.0, 1.0, -1.0, 1.0]) * np.sqrt(3) / 2
    assert spread.std(ddof=1) == pytest.approx(1)
    assert not below_zero(spread - 1)
    assert below_zero(spread - 2)
    assert not below_zero(spread - 2, tests=6)
    assert not below_zero(spread + 2)


class TestConstants:
    X = (100, 200, 400, 800)

    def arm(self, scale, floor=0.0, seeds=3, x=X):
        # Seeds differ by a factor that both arms share.
        return [curve(x, [1 - floor - scale * (1 + seed / 10) / n for n in x], seed) for seed in range(seeds)]

    def test_those_of_1_and_0_4_over_n(self):
        found = constants(self.arm(0.4, seeds=1), self.arm(1.0, seeds=1), generator())
        assert (found.floor, found.baseline, found.strategy) == pytest.approx((0.0, 1.0, 0.4), abs=1e-9)
        assert found.ratio == pytest.approx(2.5)
        assert found.interval is None

    def test_the_floor_is_shared_and_the_arms_need_not_have_the_same_x(self):
        found = constants(self.arm(4.0, 0.05, 1, (50, 150, 600)), self.arm(8.0, 0.05, 1), generator())
        assert (found.floor, found.baseline, found.strategy) == pytest.approx((0.05, 8.0, 4.0))

    def test_the_bootstrap_is_paired(self):
        found = constants(self.arm(0.4), self.arm(1.0), generator())
        assert found.interval == pytest.approx((2.5, 2.5))  # a draw of seeds for each arm by itself would spread
        same = constants(self.arm(1.0), self.arm(1.0), generator())
        assert same.ratio == pytest.approx(1.0)
        assert same.interval == pytest.approx((1.0, 1.0))

    def test_a_floor_below_zero_is_none(self):
        x = (100, 200, 400)
        found = constants([curve(x, [0.5, 0.8, 0.99])], [curve(x, [0.5, 0.75, 0.95])], generator())
        assert found.floor == 0
        # By hand: c = Σ n · (1/n) · e / Σ n · (1/n)² = Σ e / Σ 1/n.
        assert found.strategy == pytest.approx((0.5 + 0.2 + 0.01) / 0.0175)

    def test_points_before_the_start_do_not_count(self):
        bent = [curve((10, *self.X), [0.1, *(1 - 0.4 / n for n in self.X)])]
        assert constants(bent, self.arm(1.0, seeds=1), generator(), start=100).ratio == pytest.approx(2.5)
        assert constants(bent, self.arm(1.0, seeds=1), generator()).ratio != pytest.approx(2.5, rel=0.05)

    def test_without_a_positive_constant_there_is_no_ratio(self):
        falling = [curve(self.X, [0.9, 0.8, 0.7, 0.6])]
        assert np.isnan(constants(falling, self.arm(1.0, seeds=1), generator()).ratio)


def test_the_module_stays_light():
    code = (
        "import sys, nlp_al.evaluation; print({'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
