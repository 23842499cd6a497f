"""What snapshots of one fit differ on, and how such a run is set up."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from helpers import read_lines, some_rows, tiny_model, values_of
from safetensors.torch import load_file

from nlp_al.config import read_config
from nlp_al.decisions import Decisions
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.scores import predict
from nlp_al.signals import Signals
from nlp_al.signals.collector import collect_members
from nlp_al.signals.sampled import statistics
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals
from nlp_al.training import fit

OTHERS = {"vote": "variation_ratio", "bald": "bald", "margin": "margin_ensemble"}


def scores(signals: Signals, name: str = "snapshot", **parameters: object) -> list[float]:
    found = make_strategy(name, **parameters).select(signals, 1, torch.Generator()).scores
    assert found is not None
    return found.tolist()


def test_five_votes() -> None:
    """a, a, a, b, c: three of five for the most voted, .4 for others."""
    votes = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1, 2]), 3).double()[:, None]
    assert scores(Signals(passes=0.7 * votes + 0.1)) == pytest.approx([0.4])


def test_the_entropy_of_the_mean() -> None:
    """(.9, .1) and (.7, .3): of (.8, .2) .500402; with two of three options over ln 2."""
    passes = torch.tensor([[[0.9, 0.1]], [[0.7, 0.3]]]).double()
    assert scores(Signals(passes=passes), kind="mean_entropy") == pytest.approx([0.500402], abs=1e-6)
    wide = torch.cat([passes, torch.full((2, 1, 1), 5.0).double()], 2)
    found = scores(Signals(passes=wide, options=torch.tensor([2])), kind="mean_entropy")
    assert found == pytest.approx([0.721928], abs=1e-6)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_each_kind_is_the_score_of_that_name(kind: str, shape: str) -> None:
    signals = synthetic_signals(shape)
    assert scores(signals, kind=kind) == scores(signals, OTHERS[kind])


def test_sums_of_snapshots_that_come_and_go_are_those_of_all_together() -> None:
    passes = torch.rand(5, 40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(2)
    offsets = torch.arange(41)
    kept = statistics(Decisions(member, offsets) for member in passes)
    logs = torch.special.entr(passes).sum(2).mean(0)
    torch.testing.assert_close(kept.mean, passes.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(kept.entropy, logs, rtol=0, atol=1e-12)
    votes = torch.nn.functional.one_hot(passes.argmax(2), 6).sum(0)
    assert kept.votes.tolist() == votes.tolist()
    for kind in (*OTHERS, "mean_entropy"):
        torch.testing.assert_close(
            torch.tensor(scores(Signals(sampled=kept), kind=kind)),
            torch.tensor(scores(Signals(passes=passes), kind=kind)),
        )


@pytest.mark.parametrize("kind", ["vote", "bald"])
def test_one_snapshot_says_nothing_and_the_choice_says_so(kind: str) -> None:
    signals = Signals(passes=torch.rand(1, 5, 3).softmax(2))
    found = make_strategy("snapshot", kind=kind).select(signals, 2, torch.Generator())
    assert found.scores is not None
    assert found.scores.tolist() == [0.0] * 5
    assert found.note == "one snapshot has nothing to be compared with"


@pytest.mark.parametrize("parameters", [{"kind": "mean_entropy"}, {"kind": "margin", "agg": "max"}])
def test_its_parameters_do_not_break_it(parameters: dict) -> None:
    check_strategy(make_strategy("snapshot", **parameters), seed=1)


def values(tmp_path: Path, **more: object) -> dict:
    made = values_of(tmp_path, tiny_model(tmp_path / "weights"), some_rows(60), test=0)
    training = {"num_train_epochs": 3, "use_cpu": True, "mode": "full"}
    loop = {"initial": 12, "batch": 5, "rounds": 2}
    return {
        **made,
        "strategy": "snapshot",
        "training": training,
        "loop": loop,
        **more,
        "run_dir": str(tmp_path / "run"),
    }


def test_a_run_takes_snapshots_and_asks_by_them(tmp_path) -> None:
    config = read_config(values(tmp_path, sampler={"passes": 3}), tmp_path)
    assert (config.sampler.name, config.sampler.parameters) == ("snapshots", {"passes": 3})
    ActiveLearner(config).run()
    asked = read_lines(tmp_path / "run" / "queries.jsonl")
    assert [line["strategy"] for line in asked] == ["initial"] * 12 + ["snapshot"] * 10
    assert {line["score"] for line in asked[12:]} <= {0.0, 1 - 2 / 3, 2 / 3}


def test_what_is_judged_is_the_last_snapshot_or_all_or_the_mean_of_their_weights(tmp_path) -> None:
    found = {}
    for how in ("single", "ens", "swa"):
        made = values(tmp_path, sampler={"name": "snapshots", "passes": 3, "evaluate": how}, strategy="margin")
        made["loop"]["rounds"] = 0
        learner = ActiveLearner(read_config({**made, "run_dir": str(tmp_path / how)}, tmp_path))
        learner.run()
        fitter, labelled = learner.fitter, learner.pool.labelled(learner.fit.answers)
        if how == "single":
            assert learner.fields.judges(0, learner.fit) is None
            continue
        examples = learner.pool.examples
        models = [weights(model) for model in fitter.snapshots(labelled)]
        own = weights(learner.fit.model)
        judges = learner.fields.judges(0, learner.fit)
        assert judges is not None
        told = collect_members(learner.fit.model, judges(), examples, {"passes"}, torch.Generator())
        found[how] = told.passes
        assert all(torch.equal(value, own[name]) for name, value in weights(learner.fit.model).items())
        (mean,) = (weights(model) for model in fitter.snapshots(labelled, True))
        for name, value in mean.items():
            torch.testing.assert_close(value, torch.stack([model[name] for model in models]).mean(0))
        predicted = predict(learner.fit.model, None, learner.bench.task, examples, torch.Generator(), judges)
        expected = told.passes.double().mean(0).argmax(1).tolist()
        assert predicted == [learner.bench.task.labels[at] for at in expected]
    assert (len(found["ens"]), len(found["swa"])) == (3, 1)


def weights(model) -> dict:
    return {name: value.detach().clone() for name, value in model.model.named_parameters()}


def test_one_continuing_fit_goes_on_after_a_restart_as_if_there_had_been_none(tmp_path, monkeypatch) -> None:
    """Rounds begin where the last one ended, snapshots of each are those of its own way, and steps add up."""
    found, begun, ended, steps = [], [], [], []
    tuned, trained = fit.fine_tune, transformers.Trainer.train

    def fine_tune(source, *about):
        begun.append(read_weights(source))
        made = tuned(source, *about)
        ended.append({name: value.clone() for name, value in made.model.state_dict().items()})
        return made

    def train(self):
        done = trained(self)
        steps.append(self.state.global_step)
        return done

    monkeypatch.setattr(fit, "fine_tune", fine_tune)
    monkeypatch.setattr(transformers.Trainer, "train", train)
    training = {"num_train_epochs": 1, "min_steps": 4, "use_cpu": True, "mode": "full", "init": "last"}
    for stops in ([2], [0, 1, 2]):
        for rounds in stops:
            loop = {"initial": 12, "batch": 5, "rounds": rounds}
            made = values(tmp_path, sampler={"passes": 2, "start": 0.0}, training=training, loop=loop)
            run = tmp_path / f"of-{len(stops)}"
            ActiveLearner(read_config({**made, "run_dir": str(run)}, tmp_path)).run()
        found.append([line["id"] for line in read_lines(run / "queries.jsonl")])
        if len(stops) == 1:
            assert steps == [4, 4, 4]
            assert not any(name.startswith("classifier") for name in begun[0])
            for at in (1, 2):
                assert all(torch.equal(value, ended[at - 1][name]) for name, value in begun[at].items())
        last = [json.loads((run / name / "nlp_al.json").read_text())["round"] for name in ("model", "model_start")]
        assert last == [2, 1]
    assert found[0] == found[1]
    assert (tmp_path / "of-1/model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    # Two more fits, those of rounds 0 and 1 again for their snapshots: the one from pretrained weights, the other not.
    assert len(begun) == 3 + 5
    assert [set(one) == set(begun[0]) for one in begun[3:]] == [True, True, False, False, False]
    # Without a last round's weights there is nothing to keep.
    again = values(
        tmp_path, sampler={"passes": 2}, training={**training, "init": "pretrained"}, loop={**loop, "rounds": 3}
    )
    ActiveLearner(read_config({**again, "run_dir": str(run)}, tmp_path)).run()
    assert not (run / "model_start").exists()


def read_weights(source: str) -> dict[str, torch.Tensor]:
    return load_file(Path(source, "model.safetensors"))


def test_a_head_on_frozen_features_has_no_way_to_look_at(tmp_path) -> None:
    with pytest.raises(UserError, match="strategy snapshot needs the sampler 'snapshots', but a head is fitted to its"):
        read_config(values(tmp_path, training={"mode": "frozen"}), tmp_path)
