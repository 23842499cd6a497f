"""Where committees come from: members that differ as they should, and are the same however the work is cut up."""

import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of
from torch import nn

from nlp_al import laplace
from nlp_al.config import TRAINING_DEFAULTS, Lora, Training, read_config
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Example
from nlp_al.samplers import SAMPLERS, Fitted, make_sampler
from nlp_al.samplers import heads as head_sampler
from nlp_al.samplers.heads import resampled
from nlp_al.samplers.layers import LayerCommittee
from nlp_al.selection.batchbald import batch_bald
from nlp_al.signals.collector import collect, collect_members
from nlp_al.signals.features import Pretrained
from nlp_al.signals.rows import read_rows, take_examples
from nlp_al.store import RunDirectory
from nlp_al.strategies import make_strategy
from nlp_al.tasks import make_task
from nlp_al.training.fit import Fitter
from nlp_al.training.frozen import fit_head
from nlp_al.training.full import fine_tune
from nlp_al.training.masks import Masks, dropouts
from nlp_al.training.snapshots import Snapshots

CASES = {
    "single": ("text-classification", {}, some_rows, ("text", "label")),
    "multi": ("text-classification", {"multi_label": True}, some_rows, ("text", "label")),
    "words": ("token-classification", {}, some_sentences, ("tokens", "tags")),
    "bi": ("response-selection", {"form": "bi-encoder"}, some_dialogues, ("context", "candidates", "label")),
    "cross": ("response-selection", {"form": "cross-encoder"}, some_dialogues, ("context", "candidates", "label")),
}
QUICK = {"learning_rate": 1e-3, "num_train_epochs": 1.0}
MODES = [("frozen", name) for name in ("heads", "laplace", "layers")] + [("full", name) for name in SAMPLERS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@cache
def case(name: str):
    """A task, and labelled examples of it."""
    kind, options, made, columns = CASES[name]
    task, pairs = make_task(kind, options), []
    for at, row in enumerate(made(24)):
        if name == "multi":
            row["label"] = [row["label"]] if at % 3 else ["food", "money"]
        inputs, words, label = task.read({role: row[role] for role in columns}, None)
        pairs.append((Example(row["id"], inputs, words), label))
    names = sorted({n for _, label in pairs for n in task.names_in(label)})
    return task.with_labels(task.label_set(names) if task.named else []), pairs


def settings(mode: str = "full", **values: Any) -> Training:
    own = {"min_steps": values.pop("min_steps", 6)}
    return Training(mode, **own, lora=Lora(r=4, alpha=8), arguments={**TRAINING_DEFAULTS, **QUICK, **values})


@cache
def model_of(folder: str, name: str, seed: int) -> Any:
    """A fine-tuned model of a case; nobody changes it."""
    task, pairs = case(name)
    return fine_tune(folder, task, pairs, settings(), seed)


def frozen_model(folder: str, task: Any, pairs: Any) -> Any:
    encoder = Pretrained(folder, task)
    encoder.encode([e for e, _ in pairs])
    return fit_head(encoder, task, pairs)


def fitted(folder: str, name="single", sampler="mc_dropout", mode="full", seed=0, **parameters):
    """A sampler, and what it is asked with."""
    task, pairs = case(name)
    model = frozen_model(folder, task, pairs) if mode == "frozen" else model_of(folder, name, 0)
    about = Fitted(model, pairs, partial(hash_of, seed), partial(model_of, folder, name), lambda: iter(()))
    return make_sampler(sampler, parameters), about


def hash_of(seed: int, purpose: str) -> int:
    return seed * 10_000 + sum(map(ord, purpose))


def asked(made: Any, pool: Any, wanted=("passes",)):
    """Fields of the pool, by a sampler and what it is asked with."""
    chosen, about = made
    generator = torch.Generator()
    return collect_members(about.model, chosen.committees(about), [e for e, _ in pool], set(wanted), generator)


def probs_of(model: Any, pairs: Any) -> torch.Tensor:
    return collect(model, [e for e, _ in pairs], {"probs"}, torch.Generator()).probs


def test_samplers_are_known_before_torch_loads() -> None:
    code = "import sys; from nlp_al.samplers import make_sampler as m; m('heads', {}); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_each_says_what_it_is_for() -> None:
    for name, kind in SAMPLERS.items():
        assert type(make_sampler(name, {})) is kind
        for word in ("Use when", "Needs", "Cost", "Reference"):
            assert f"{word}:" in (kind.__doc__ or ""), (name, word)
        assert kind.reference


# --- masks


class Layered(nn.Module):
    """Dropout in all places that it may stand in, and something that is other in training."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Dropout(rate), nn.Dropout(rate)
        self.attention = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)  # [B, T, d]
        weights = self.attention((x @ x.mT).softmax(-1)[:, None])[:, 0]  # [B, 1, T, T]
        x = x + weights @ x
        if self.training:
            return x * 0
        return self.hidden(self.norm(x.mean(1)))  # [B, d]


def test_a_mask_is_the_same_for_every_example_and_token() -> None:
    model = Layered().eval()
    masks = Masks(model, seed=3)
    x = torch.randn(5, 7, 64, generator=torch.Generator().manual_seed(0)).abs() + 1
    with torch.no_grad(), masks.of(0):
        whole = model(x)
        alone = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(whole, alone)
    dropped = (whole == 0).float()
    assert torch.equal(dropped, dropped[:1].expand(5, -1))
    assert 30 < float(dropped[0].sum()) < 62  # of 64, three quarters by two masks
    assert masks.used
    with torch.no_grad(), masks.of(0):  # where a token stands in its batch must not matter
        assert torch.equal(model.attention(x[:, None]), x[:, None])
    with torch.no_grad():
        assert (model(x) != 0).all()  # and it is off again


def test_what_is_kept_is_scaled_up_so_that_the_mean_stays() -> None:
    model, x = nn.Sequential(nn.Dropout(0.25)).eval(), torch.ones(1, 20_000)
    with Masks(model, seed=0).of(0):
        found = model(x)
    assert found.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)


def test_masks_depend_on_member_seed_and_place_alone() -> None:
    model, x = Layered().eval(), torch.ones(2, 3, 64)

    def seen(seed: int, member: int) -> torch.Tensor:
        with torch.no_grad(), Masks(model, seed).of(member):
            return model.embedding(x)

    torch.manual_seed(0)
    first = seen(1, 0)
    torch.manual_seed(1)
    assert torch.equal(seen(1, 0), first)
    assert not torch.equal(seen(1, 1), first)
    assert not torch.equal(seen(2, 0), first)
    with torch.no_grad(), Masks(model, 1).of(0):
        assert not torch.equal(model.hidden(x[:, 0]), model.embedding(x)[:, 0])
    before = torch.get_rng_state()
    seen(1, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_rate_of_ones_own_is_for_every_place() -> None:
    assert set(dropouts(Layered())) == {"embedding", "hidden", "attention"}
    none = Layered(rate=0.0)
    assert set(dropouts(none)) == {"attention"}
    rates = {name: rate for name, (_, rate) in dropouts(none, 0.3).items()}
    assert rates == dict.fromkeys(("embedding", "hidden", "attention"), 0.3)


def test_nothing_but_dropout_is_switched_on(folder) -> None:
    """Modules are as in inference while a member reads."""
    made = fitted(folder, passes=2)
    model, states = made[1].model.model, []
    layer = model.bert.encoder.layer[0]
    hook = layer.register_forward_hook(lambda *_: states.extend(m.training for m in model.modules()))
    found = asked(made, case("single")[1])
    hook.remove()
    assert set(states) == {False}
    assert not torch.equal(found.passes[0], found.passes[1])


@pytest.mark.parametrize("name", CASES)
def test_members_say_the_same_in_any_batch_and_order(name, folder, monkeypatch) -> None:
    _, pairs = case(name)
    made = fitted(folder, name, passes=3)
    whole = asked(made, pairs)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    shuffled = asked(made, [pairs[at] for at in order.tolist()])
    for mine, theirs in zip(shuffled.members(), whole.take(order).members(), strict=True):
        torch.testing.assert_close(mine.masked, theirs.masked, rtol=1e-4, atol=1e-6)
    for size in (1, 5):
        monkeypatch.setattr(getattr(made[1].model, "encoder", made[1].model), "batch_size", size)
        torch.testing.assert_close(asked(made, pairs).passes, whole.passes, rtol=1e-4, atol=1e-6)


# --- all of them


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("mode", "sampler"), MODES)
def test_statistics_are_those_of_the_passes(name, mode, sampler, folder) -> None:
    task, pairs = case(name)
    made = snapshot_fit(folder, name) if sampler == "snapshots" else fitted(folder, name, sampler, mode, passes=3)
    passes = asked(made, pairs, ("passes", "sampled", "probs"))
    sampled = asked(made, pairs, ("sampled", "embeddings"))
    assert len(passes.passes) == sampled.statistics().members == 3
    assert passes.sampled is None
    assert sampled.passes is None
    torch.testing.assert_close(sampled.statistics().mean, passes.statistics().mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(sampled.statistics().entropy, passes.statistics().entropy, rtol=0, atol=1e-12)
    assert torch.equal(sampled.statistics().votes, passes.statistics().votes)
    assert not torch.equal(passes.passes[0], passes.passes[2])
    # The other fields of the pass are those of the model itself.
    plain = collect(made[1].model, [e for e, _ in pairs], {"probs", "embeddings"}, torch.Generator())
    torch.testing.assert_close(passes.probs, plain.probs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sampled.embeddings, plain.embeddings, rtol=1e-5, atol=1e-6)
    assert passes.offsets.tolist() == plain.offsets.tolist()
    assert passes.probs.shape[1] == passes.passes.shape[2]
    assert task.shape != "ranking" or passes.options.tolist() == plain.options.tolist()


DISAGREEMENT: dict[str, dict[str, Any]] = {
    "bald": {},
    "mean_std": {},
    "variation_ratio": {},
    "qbc_ve": {},
    "qbc_kl": {},
    "layer_qbc": {"explore": 0.0},
    "snapshot": {},
    "mc_token_map": {},
}


def alike(monkeypatch: pytest.MonkeyPatch, folder: str, name: str, mode: str, sampler: str) -> Any:
    """A sampler with nothing that members could differ by, and what it is asked with."""
    parameters = {"rate": 1e-9} if sampler == "mc_dropout" else {}
    chosen, about = fitted(folder, name, sampler, mode, passes=3, **parameters)
    if sampler == "ensemble":
        about = replace(about, another=lambda seed: about.model)
    elif sampler == "snapshots":
        about = replace(about, snapshots=lambda averaged=False: iter([about.model] * 3))
    elif sampler == "heads":
        monkeypatch.setattr(head_sampler, "resampled", lambda labels, task, generator: list(range(len(labels))))
    elif sampler == "laplace":
        draws = laplace.Posterior.draws
        monkeypatch.setattr(laplace.Posterior, "draws", lambda *given: [draw * 0 for draw in draws(*given)])
    elif sampler == "layers":
        layers = LayerCommittee._layers
        monkeypatch.setattr(LayerCommittee, "_layers", lambda self, reading: layers(self, reading)[-1:] * 3)
    return chosen, about


@pytest.mark.parametrize("name", ["single", "words", "bi"])
@pytest.mark.parametrize(("mode", "sampler"), MODES)
def test_equal_members_disagree_on_nothing(name, mode, sampler, folder, monkeypatch) -> None:
    _, pairs = case(name)
    made = alike(monkeypatch, folder, name, mode, sampler)
    kept, counted = (asked(made, pairs, (field, "outside", "transitions")) for field in ("passes", "sampled"))
    assert counted.statistics().members == len(kept.passes) == 3
    for strategy, parameters in DISAGREEMENT.items():
        for signals in (kept, counted)[: 1 if strategy == "layer_qbc" else 2]:
            scores = make_strategy(strategy, **parameters).select(signals, 1, torch.Generator()).scores
            assert scores is not None
            assert float(scores.abs().max()) < 1e-6, strategy
    passes = torch.stack([member.masked for member in kept.members()])
    options = kept.options if kept.options is not None else torch.full(passes.shape[1:2], passes.shape[2])
    count = torch.ones(len(kept))
    _, added = batch_bald(passes, kept.offsets, options, 4, torch.Generator(), divisors=count)
    assert float(added.abs().max()) < 1e-6


@pytest.mark.parametrize(("mode", "sampler"), [m for m in MODES if m[1] not in ("snapshots", "layers")])
def test_the_same_seed_gives_the_same_members_and_another_others(mode, sampler, folder) -> None:
    _, pairs = case("single")
    first, again, other = (
        asked(fitted(folder, "single", sampler, mode, seed, passes=3), pairs).passes for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_is_asked_of_an_empty_pool(folder) -> None:
    assert len(asked(fitted(folder, passes=2), [])) == 0


# --- ensembles


def test_an_ensemble_is_the_model_and_others_that_come_one_after_the_other(folder) -> None:
    _, pairs = case("single")
    chosen, about = fitted(folder, sampler="ensemble", passes=3)
    seeds = []

    def another(seed: int):
        seeds.append(seed)
        return about.another(seed)

    seen = []
    for committee in chosen.committees(replace(about, another=another)):
        seen.append(len(seeds))
        assert len(committee.rows(committee.prepare([pairs[0][0]])[0]).logits) == 1
    assert seen == [0, 1, 2]
    assert seeds == [hash_of(0, "member-1"), hash_of(0, "member-2")]
    found = asked((chosen, about), pairs)
    for member, model in enumerate((about.model, *map(about.another, seeds))):
        assert torch.equal(found.passes[member], probs_of(model, pairs))


# --- heads


def test_a_resample_counts_as_poisson_does_and_leaves_no_label_out() -> None:
    task, _ = case("single")
    labels = [task.labels[at % 3] for at in range(300)]
    times = torch.zeros(100, 300)
    for seed in range(100):
        drawn = torch.tensor(resampled(labels, task, torch.Generator().manual_seed(seed)))
        times[seed] = torch.bincount(drawn, minlength=300).float()
    assert float(times.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(times.var()) == pytest.approx(1.0, abs=0.04)
    assert float((times == 0).float().mean()) == pytest.approx(0.367879, abs=0.01)  # 1 / e
    rare = ["food"] * 40 + ["money"]
    for seed in range(30):
        assert 40 in resampled(rare, task, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "labels", "kept"),
    [
        # The one yes to money, and the one no to food.
        ("multi", [["food"]] * 30 + [["money"]] + [["food", "sport"]] * 20, 30),
        ("words", [["O", "O"]] * 20 + [["B-X", "I-X"]], 20),
        ("cross", [1], 0),  # positions have no names, but something must be left
    ],
)
def test_what_a_label_decides_is_kept_once_at_least(name, labels, kept) -> None:
    for seed in range(30):
        assert kept in resampled(labels, case(name)[0], torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CASES)
def test_a_head_is_a_fit_of_its_resample(name, folder) -> None:
    """What one head says is what a model says that was fitted to the examples as often as they were drawn."""
    task, pairs = case(name)
    made = fitted(folder, name, "heads", "frozen", passes=2)
    found = asked(made, pairs)
    labels = [label for _, label in pairs]
    for member in range(2):
        drawn = resampled(labels, task, torch.Generator().manual_seed(hash_of(0, f"head-{member}")))
        alone = fit_head(made[1].model.encoder, task, [pairs[at] for at in drawn])
        want = collect(alone, [e for e, _ in pairs], {"probs"}, torch.Generator())
        torch.testing.assert_close(found.members()[member].masked, want.decisions.masked, rtol=1e-5, atol=1e-6)


def test_heads_in_full_mode_read_what_the_encoder_was_trained_to_say(folder) -> None:
    task, pairs = case("single")
    made = fitted(folder, sampler="heads", passes=2)
    model = made[1].model
    before = weights(model.model)
    found = asked(made, pairs)
    rows, labels = read_rows(model, [e for e, _ in pairs]), [label for _, label in pairs]
    drawn = resampled(labels, task, torch.Generator().manual_seed(hash_of(0, "head-1")))
    head = task.fit_head(take_examples(rows, torch.tensor(drawn)), [labels[at] for at in drawn])
    torch.testing.assert_close(found.passes[1], task.decisions(task.score_rows(rows, head)).probs)
    assert all(torch.equal(values, before[name]) for name, values in weights(model.model).items())


@pytest.mark.parametrize("name", CASES)
def test_rows_of_examples_come_in_their_order(name, folder) -> None:
    examples = [e for e, _ in case(name)[1]]
    model = model_of(folder, name, 0)
    picked = take_examples(read_rows(model, examples), torch.tensor([5, 0, 5]))
    alone = read_rows(model, [examples[at] for at in (5, 0, 5)])
    for one, other in zip(picked, alone, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# --- laplace


def test_laplace_moves_the_logits_of_the_model(folder) -> None:
    """On average not at all, and the less the more the prior is sure of."""
    _, pairs = case("single")
    made = fitted(folder, sampler="laplace", passes=400)
    found, plain = asked(made, pairs).passes, probs_of(made[1].model, pairs)
    moved = found.double().log() - plain.double().log()
    moved = moved - moved.mean(2, keepdim=True)
    assert float(moved.mean(0).abs().max()) < 5 * float(moved.std(0).max()) / 400**0.5
    tight = asked(fitted(folder, sampler="laplace", passes=4, prior=1e6), pairs).passes
    assert 0 < float((tight - plain).abs().max()) < 0.1
    exact = asked(fitted(folder, sampler="laplace", passes=400, form="exact"), pairs).passes
    assert not torch.equal(exact, found)


@pytest.mark.parametrize("sampler", ["heads", "laplace"])
def test_a_label_that_nobody_gave_stays_impossible(folder, sampler) -> None:
    task, pairs = case("single")
    task = task.with_labels([*task.labels, "never"])
    chosen, about = fitted(folder, sampler=sampler, mode="frozen", passes=4)
    found = asked((chosen, replace(about, model=frozen_model(folder, task, pairs))), pairs)
    assert float(found.passes[:, :, -1].max()) == 0.0


# --- snapshots


def config_of(folder: str, run: Path | None = None) -> Any:
    base = Path(folder).parent / "data"
    values = values_of(base, folder, some_rows(20), test=0)
    made = read_config({**values, "run_dir": str(run or base / "no-run")}, Path("/"))
    return replace(made, training=settings())


@cache
def snapshot_fit(folder: str, name: str):
    """Snapshots as the fit of a round leaves them."""
    task, pairs = case(name)
    chosen = make_sampler("snapshots", {"passes": 3})
    fitter = Fitter(config_of(folder), task, Pretrained(folder, task), chosen.keeps)
    model: Any = fitter.fit(pairs, 0, 0, None)
    return chosen, Fitted(model, pairs, partial(hash_of, 0), fitter.another, partial(fitter.snapshots, pairs))


def test_snapshots_are_taken_at_the_ends_of_cycles() -> None:
    """Of 200 epochs, from 100 on, five: 120, 140, 160, 180, 200."""
    assert Snapshots(5, 0.5).bounds(200) == [100, 120, 140, 160, 180, 200]
    assert Snapshots(3, 0.0).bounds(10) == [0, 3, 6, 10]
    assert Snapshots(4, 0.9).bounds(6) == [2, 3, 4, 5, 6]
    with pytest.raises(UserError, match=r"passes is 5, but training has only 4 steps; raise training.min_steps"):
        Snapshots(5, 0.5).bounds(4)


def test_the_learning_rate_comes_down_again_and_again() -> None:
    rates = [Snapshots(5, 0.5).rate(step, 200, 10, 5e-5) for step in range(200)]
    assert rates[0] == pytest.approx(1 / 11)  # warmup
    assert rates[50] == pytest.approx(0.5)  # half way down a cosine
    for start in (100, 120, 140, 160, 180):
        assert rates[start] == pytest.approx(1.0)
        assert rates[start + 10] == pytest.approx(0.5)
        assert rates[start + 19] < 0.01
        assert rates[start - 1] < 0.01
    # A low learning rate is raised, tenfold at most, and to 5e-5.
    assert Snapshots(5, 0.5).rate(100, 200, 0, 2e-5) == pytest.approx(2.5)
    assert Snapshots(5, 0.5).rate(100, 200, 0, 1e-6) == pytest.approx(10.0)
    assert Snapshots(5, 0.5).rate(100, 200, 0, 1e-3) == pytest.approx(1.0)
    assert Snapshots(5, 0.5).rate(40, 200, 0, 1e-6) <= 1.0
    assert Snapshots(5, 0.5).rate(200, 200, 0, 1e-6) == 0.0


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize(("decay", "optimizer"), [(0.0, "adamw_torch"), (0.3, "adamw_torch"), (0.0, "adafactor")])
def test_a_snapshot_is_what_a_fit_that_stops_there_would_have(folder, monkeypatch, decay, optimizer) -> None:
    """All weights, those of the embeddings that no text uses too; at the end the model has its own again."""
    task, pairs = case("single")
    training = settings(min_steps=12, weight_decay=decay, optim=optimizer)
    kept = Snapshots(3, 0.5)
    model = fine_tune(folder, task, pairs, training, 0, kept).model
    final, taken = weights(model), [weights(each) for each in kept.models(model, lambda m: m)]
    for name, values in weights(model).items():
        torch.testing.assert_close(values, final[name], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(taken[-1][name], final[name], rtol=1e-6, atol=1e-7)
    # The steps before do not know what comes after: the same rates, and an end after eight steps.
    early, rates = Snapshots(1, 0.0), kept.rate
    monkeypatch.setattr(early, "rate", lambda at, _, *how: rates(at, 12, *how))
    stopped = fine_tune(folder, task, pairs, replace(training, min_steps=8), 0, early).model
    for name, values in weights(stopped).items():
        torch.testing.assert_close(taken[0][name], values, rtol=1e-5, atol=1e-6, msg=name)
    assert not torch.equal(taken[0]["bert.pooler.dense.weight"], taken[1]["bert.pooler.dense.weight"])


def test_snapshots_of_adapters_are_adapters_alone(folder) -> None:
    pytest.importorskip("peft")
    task, pairs = case("single")
    kept = Snapshots(2, 0.0)
    model = fine_tune(folder, task, pairs, settings("lora"), 0, kept).model
    for state in kept.states:
        assert all("lora_" in name or "classifier" in name for name in state)
    final = weights(model)
    first, last = [weights(each) for each in kept.models(model, lambda m: m.merge_and_unload())]
    for name, values in last.items():
        torch.testing.assert_close(values, final[name], rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(first[name], values) for name, values in last.items())
    assert all(torch.equal(values, final[name]) for name, values in weights(model).items())


def test_after_a_restart_the_fit_is_done_again_for_its_snapshots(folder, tmp_path) -> None:
    task, pairs = case("single")
    chosen = make_sampler("snapshots", {"passes": 3})
    store = RunDirectory(tmp_path / "run", None)
    found = []
    try:
        for _ in range(2):
            fitter = Fitter(config_of(folder, tmp_path / "run"), task, Pretrained(folder, task), chosen.keeps)
            model = fitter.fit(pairs, 0, len(pairs), store)  # the second one loads what the first one saved
            assert (fitter._kept is None) == (len(found) == 1)
            about = Fitted(model, pairs, partial(hash_of, 0), fitter.another, partial(fitter.snapshots, pairs))
            found.append(asked((chosen, about), pairs).passes)
    finally:
        store.close()
    assert torch.equal(*found)


# --- in a run

LONG = {"mode": "full", "learning_rate": 1e-3, "num_train_epochs": 1, "min_steps": 6}
RUNS = {
    "frozen, by default heads": ({"mode": "frozen"}, None, "bald"),
    "frozen laplace": ({"mode": "frozen"}, "laplace", "power_bald"),
    "full, by default dropout": (LONG, None, [{"name": "entropy", "keep": 30}, {"name": "batchbald"}]),
    "full ensemble": (LONG, {"name": "ensemble", "passes": 2}, "variation_ratio"),
    "full snapshots": (LONG, {"name": "snapshots", "passes": 2}, "mean_std"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_goes_on_asks_what_it_would_have_asked(name, folder, tmp_path) -> None:
    training, sampler, strategy = RUNS[name]
    questions = []
    for stops in ([1], [0, 1]):
        for rounds in stops:
            values = values_of(
                tmp_path / str(len(stops)),
                folder,
                some_rows(60),
                test=0,
                training={"final": "none", **training},
                strategy=strategy,
                loop={"rounds": rounds},
                **({"sampler": sampler} if sampler else {}),
            )
            ActiveLearner(read_config(values, Path("/"))).run()
        questions.append([line["id"] for line in read_lines(Path(values["run_dir"], "queries.jsonl"))])
    assert questions[0] == questions[1]
    assert len(questions[0]) == 15


def test_a_sampler_that_nobody_needs_changes_nothing(folder, tmp_path) -> None:
    scores = []
    for name in ("ensemble", "snapshots"):
        how = {"training": {"final": "none", **LONG}, "loop": {"rounds": 0}, "sampler": name}
        learner = ActiveLearner(read_config(values_of(tmp_path / name, folder, some_rows(40), **how), Path("/")))
        learner.run()
        assert learner.fitter._kept is None
        scores.append(weights(learner.fit.model.model))
    assert all(map(torch.equal, scores[0].values(), scores[1].values()))


def without_dropout(folder: Path) -> str:
    source = tiny_model(folder)
    config = transformers.AutoConfig.from_pretrained(source)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    config.save_pretrained(source)
    return source


def test_a_model_without_dropout_is_told_of_before_anything_is_asked(tmp_path) -> None:
    source = without_dropout(tmp_path / "model")
    values = values_of(tmp_path / "one", source, some_rows(40), test=0, training=LONG, strategy="bald")
    with pytest.raises(UserError, match=r"sampler is 'mc_dropout', but the model has no dropout: set sampler.rate, or"):
        ActiveLearner(read_config(values, Path("/"))).run()
    assert read_lines(Path(values["run_dir"], "queries.jsonl")) == []
    # Where it is found out late, it is told as well; a rate of one's own does.
    task, pairs = case("single")
    with pytest.raises(UserError, match="the model has no dropout"):
        asked(fitted(source), pairs)
    found = asked(fitted(source, rate=0.2, passes=2), pairs).passes
    assert not torch.equal(found[0], found[1])
    make_sampler("mc_dropout", {"rate": 0.1}).check_model(task, source)
    make_sampler("mc_dropout", {}).check_model(task, tiny_model(tmp_path / "with"))


def test_too_many_weights_for_the_exact_form_are_told_of_before_anything_is_asked(folder) -> None:
    exact = make_sampler("laplace", {"form": "exact"})
    task, _ = case("single")
    exact.check_model(task, folder)
    many = task.with_labels([str(at) for at in range(200)])
    with pytest.raises(UserError, match=r"200 labels on 32 features are more than 4096 weights; take shared"):
        exact.check_model(many, folder)
    exact.check_model(case("multi")[0].with_labels(many.labels), folder)  # a matrix a label
    exact.check_model(case("cross")[0], folder)
