"""Where committees come from: members that differ as they should, and are the same however the work is cut up."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of
from torch import nn

from nlp_al.config import TRAINING_DEFAULTS, Lora, Training, read_config
from nlp_al.errors import UserError
from nlp_al.heads import Head
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Example
from nlp_al.samplers import SAMPLERS, Fitted, make_sampler
from nlp_al.samplers.heads import resampled
from nlp_al.signals.collector import collect, collect_members
from nlp_al.signals.features import Pretrained
from nlp_al.signals.rows import read_rows, take_examples
from nlp_al.store import RunDirectory
from nlp_al.tasks import make_task
from nlp_al.training.fit import Fitter
from nlp_al.training.frozen import fit_head
from nlp_al.training.full import fine_tune, load_model
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def case(name: str, count: int = 24):
    kind, options, made, columns = CASES[name]
    task, pairs = make_task(kind, options), []
    for at, row in enumerate(made(count)):
        if name == "multi":
            row["label"] = [row["label"]] if at % 3 else ["food", "money"]
        inputs, words, label = task.read({role: row[role] for role in columns}, None)
        pairs.append((Example(row["id"], inputs, words), label))
    names = sorted({n for _, label in pairs for n in task.names_in(label)})
    return task.with_labels(task.label_set(names) if task.named else []), pairs


def settings(mode: str = "full", **values: Any) -> Training:
    own = {"min_steps": values.pop("min_steps", 6)}
    return Training(mode, **own, lora=Lora(r=4, alpha=8), arguments={**TRAINING_DEFAULTS, **QUICK, **values})


def fitted(folder, task, pairs, training=None, sampler="mc_dropout", seed=0, **parameters):
    """What a sampler is asked with, its committees, and the fields of the pool."""
    training = training or settings()
    chosen = make_sampler(sampler, parameters)
    if training.mode == "frozen":
        encoder = Pretrained(folder, task)
        encoder.encode([e for e, _ in pairs])
        model: Any = fit_head(encoder, task, pairs)
        return chosen, Fitted(model, pairs, lambda purpose: hash_of(seed, purpose), None, None)
    keeper = chosen.keeps()
    model = fine_tune(folder, task, pairs, training, 0, keeper)

    def another(own: int):
        return fine_tune(folder, task, pairs, training, own)

    return chosen, Fitted(model, pairs, lambda purpose: hash_of(seed, purpose), another, None)


def hash_of(seed: int, purpose: str) -> int:
    return seed * 1000 + sum(map(ord, purpose))


def asked(chosen, about, pool, wanted=("passes",)):
    generator = torch.Generator()
    return collect_members(about.model, chosen.committees(about), [e for e, _ in pool], set(wanted), generator)


# --- what goes with what


def test_samplers_are_known_before_torch_loads() -> None:
    code = (
        "import sys; from nlp_al.samplers import make_sampler; make_sampler('heads', {}); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_each_says_what_it_is_for() -> None:
    for name, kind in SAMPLERS.items():
        assert type(make_sampler(name, {})) is kind
        for word in ("Use when", "Needs", "Cost", "Reference"):
            assert f"{word}:" in (kind.__doc__ or ""), (name, word)
        assert kind.reference


# --- masks


class Layered(nn.Module):
    """Dropout in all places that it may stand in, and a layer that is left out while training."""

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
    x = torch.randn(5, 7, 64).abs() + 1
    with torch.no_grad(), masks.of(0):
        whole = model(x)
        shorter = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(whole, shorter)
    dropped = (whole == 0).float()
    assert torch.equal(dropped, dropped[:1].expand(5, -1))
    assert 10 < float(dropped[0].sum()) < 62  # of 64, three quarters by two masks
    assert masks.used
    with torch.no_grad():
        assert (model(x) != 0).all()  # and it is off again


def test_what_is_kept_is_scaled_up_so_that_the_mean_stays() -> None:
    model, x = nn.Sequential(nn.Dropout(0.25)).eval(), torch.ones(1, 20_000)
    with Masks(model, seed=0).of(0):
        found = model(x)
    assert set(found.unique().tolist()) == {0.0, pytest.approx(4 / 3)}
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
    assert {name: rate for name, (_, rate) in dropouts(none, 0.3).items()} == dict.fromkeys(
        ("embedding", "hidden", "attention"), 0.3
    )


def test_nothing_but_dropout_is_switched_on(folder) -> None:
    """Modules are as in inference while a member reads."""
    task, pairs = case("single")
    chosen, about = fitted(folder, task, pairs, passes=2)
    model = about.model.model
    states = []
    model.bert.encoder.layer[0].register_forward_hook(
        lambda *_: states.append(any(m.training for m in model.modules()))
    )
    found = asked(chosen, about, pairs)
    assert set(states) == {False}
    assert not torch.equal(found.passes[0], found.passes[1])


@pytest.mark.parametrize("name", CASES)
def test_members_say_the_same_in_any_batch_and_alone(name, folder) -> None:
    task, pairs = case(name)
    chosen, about = fitted(folder, task, pairs, passes=3)
    whole = asked(chosen, about, pairs)
    for size in (1, 5):
        for holder in (about.model, getattr(about.model, "encoder", about.model)):
            holder.batch_size = size
        torch.testing.assert_close(asked(chosen, about, pairs).passes, whole.passes, rtol=1e-4, atol=1e-6)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))
    shuffled = asked(chosen, about, [pairs[at] for at in order.tolist()])
    other = whole.take(order)
    for mine, theirs in zip(shuffled.members(), other.members(), strict=True):
        torch.testing.assert_close(mine.masked, theirs.masked, rtol=1e-4, atol=1e-6)


# --- all of them


MODES = [("frozen", name) for name in ("heads", "laplace")] + [("full", name) for name in SAMPLERS]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("mode", "sampler"), MODES)
def test_statistics_are_those_of_the_passes(name, mode, sampler, folder) -> None:
    task, pairs = case(name)
    training = settings(mode)
    if sampler == "snapshots":
        chosen, about = snapshot_fit(folder, task, pairs, training)
    else:
        chosen, about = fitted(folder, task, pairs, training, sampler, passes=3)
    passes = asked(chosen, about, pairs, ("passes", "sampled", "probs"))
    sampled = asked(chosen, about, pairs, ("sampled", "embeddings"))
    assert len(passes.passes) == 3
    assert passes.sampled is None
    assert sampled.passes is None
    assert sampled.statistics().members == 3
    torch.testing.assert_close(sampled.statistics().mean, passes.statistics().mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(sampled.statistics().entropy, passes.statistics().entropy, rtol=0, atol=1e-12)
    assert torch.equal(sampled.statistics().votes, passes.statistics().votes)
    # The other fields of the pass are those of the model itself.
    plain = collect(about.model, [e for e, _ in pairs], {"probs", "embeddings"}, torch.Generator())
    torch.testing.assert_close(passes.probs, plain.probs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sampled.embeddings, plain.embeddings, rtol=1e-5, atol=1e-6)
    assert passes.offsets.tolist() == plain.offsets.tolist()
    assert float(passes.statistics().information(passes.options).max()) > 1e-6


@pytest.mark.parametrize(("mode", "sampler"), [m for m in MODES if m[1] != "snapshots"])
def test_the_same_seed_gives_the_same_members_and_another_others(mode, sampler, folder) -> None:
    task, pairs = case("single")
    training = settings(mode)
    first, again, other = (
        asked(*fitted(folder, task, pairs, training, sampler, seed=seed, passes=3), pairs).passes for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_is_asked_of_an_empty_pool(folder) -> None:
    task, pairs = case("single")
    chosen, about = fitted(folder, task, pairs, passes=2)
    assert len(asked(chosen, about, [])) == 0


# --- ensembles


def test_an_ensemble_is_the_model_and_others_that_are_gone_when_the_next_one_comes(folder) -> None:
    task, pairs = case("single")
    chosen, about = fitted(folder, task, pairs, sampler="ensemble", passes=3)
    seeds = []

    def another(seed: int):
        seeds.append(seed)
        return about.another(seed)

    counted = replace(about, another=another)
    seen = []
    for committee in chosen.committees(counted):
        seen.append(len(seeds))
        rows = committee.rows(committee.prepare([pairs[0][0]])[0])
        assert len(rows.logits) == 1
    assert seen == [0, 1, 2]
    assert len(set(seeds)) == 2
    found = asked(chosen, about, pairs)
    plain = collect(about.model, [e for e, _ in pairs], {"probs"}, torch.Generator())
    assert torch.equal(found.passes[0], plain.probs)
    own = fine_tune(folder, task, pairs, settings(), seeds[1])
    theirs = collect(own, [e for e, _ in pairs], {"probs"}, torch.Generator())
    assert torch.equal(found.passes[2], theirs.probs)


# --- heads


def test_a_resample_counts_as_poisson_does_and_leaves_no_label_out() -> None:
    task, pairs = case("single", 300)
    labels = [label for _, label in pairs]
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


def test_of_yes_and_no_both_are_kept() -> None:
    task, _ = case("multi")
    labels = [["food"]] * 30 + [["money"]] + [["food", "sport"]] * 20
    for seed in range(30):
        drawn = resampled(labels, task, torch.Generator().manual_seed(seed))
        assert 30 in drawn  # the one yes to money, and the one no to food
    task, _ = case("words")
    sentences = [["O", "O"]] * 20 + [["B-X", "I-X"]]
    for seed in range(30):
        assert 20 in resampled(sentences, task, torch.Generator().manual_seed(seed))
    task, _ = case("cross")
    assert all(resampled([0], task, torch.Generator().manual_seed(seed)) for seed in range(20))


@pytest.mark.parametrize("name", CASES)
def test_a_head_is_a_fit_of_its_resample(name, folder) -> None:
    """What one head says is what a model says that was fitted to the examples as often as they were drawn."""
    task, pairs = case(name)
    chosen, about = fitted(folder, task, pairs, settings("frozen"), "heads", passes=2)
    found = asked(chosen, about, pairs)
    for member in range(2):
        drawn = resampled(
            [label for _, label in pairs], task, torch.Generator().manual_seed(hash_of(0, f"head-{member}"))
        )
        alone = fit_head(about.model.encoder, task, [pairs[at] for at in drawn])
        want = collect(alone, [e for e, _ in pairs], {"probs"}, torch.Generator())
        torch.testing.assert_close(found.members()[member].masked, want.decisions.masked, rtol=1e-5, atol=1e-6)


def test_heads_in_full_mode_read_what_the_encoder_was_trained_to_say(folder) -> None:
    task, pairs = case("single")
    chosen, about = fitted(folder, task, pairs, sampler="heads", passes=2)
    before = {name: p.clone() for name, p in about.model.model.state_dict().items()}
    found = asked(chosen, about, pairs)
    rows = read_rows(about.model, [e for e, _ in pairs])
    drawn = resampled([label for _, label in pairs], task, torch.Generator().manual_seed(hash_of(0, "head-1")))
    head = task.fit_head(take_examples(rows, torch.tensor(drawn)), [pairs[at][1] for at in drawn])
    want = task.decisions(task.score_rows(rows, head)).probs
    torch.testing.assert_close(found.passes[1], want, rtol=1e-5, atol=1e-6)
    for name, values in about.model.model.state_dict().items():
        assert torch.equal(values, before[name])


@pytest.mark.parametrize("name", CASES)
def test_rows_of_examples_come_in_their_order(name, folder) -> None:
    task, pairs = case(name)
    _, about = fitted(folder, task, pairs, passes=2)
    examples = [e for e, _ in pairs]
    whole = read_rows(about.model, examples)
    picked = take_examples(whole, torch.tensor([5, 0, 5]))
    alone = read_rows(about.model, [examples[at] for at in (5, 0, 5)])
    for one, other in zip(picked, alone, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# --- laplace


def test_laplace_moves_the_logits_of_the_model(folder) -> None:
    """On average not at all, and further the less is known: a prior without any label is wider."""
    task, pairs = case("single", 40)
    parameters = {"passes": 400}
    chosen, about = fitted(folder, task, pairs, sampler="laplace", **parameters)
    found = asked(chosen, about, pairs)
    plain = collect(about.model, [e for e, _ in pairs], {"probs"}, torch.Generator())
    moved = found.passes.double().log() - plain.probs.double().log()
    moved = moved - moved.mean(2, keepdim=True)
    assert float(moved.mean(0).abs().max()) < 5 * float(moved.std(0).max()) / 400**0.5
    tight = make_sampler("laplace", {**parameters, "prior": 1e6})
    assert float((asked(tight, about, pairs).passes - plain.probs).abs().max()) < 0.1
    exact = make_sampler("laplace", {**parameters, "form": "exact"})
    assert not torch.equal(asked(exact, about, pairs).passes, found.passes)


def test_a_label_that_nobody_gave_stays_impossible(folder) -> None:
    task, pairs = case("single")
    task = task.with_labels([*task.labels, "never"])
    for sampler in ("heads", "laplace"):
        chosen, about = fitted(folder, task, pairs, settings("frozen"), sampler, passes=4)
        assert float(asked(chosen, about, pairs).passes[:, :, -1].max()) == 0.0


# --- snapshots


def snapshot_fit(folder, task, pairs, training, passes=3):
    """Snapshots as a fit leaves them, by the way of a run."""
    values = {"sampler": {"name": "snapshots", "passes": passes}}
    chosen = make_sampler("snapshots", {"passes": passes})
    fitter = Fitter(_config(folder, training, values), task, Pretrained(folder, task), chosen.keeps)
    model = fitter.fit(pairs, 0, 0, None)
    return chosen, Fitted(model, pairs, lambda _: 0, None, lambda: fitter.snapshots(pairs))


def _config(folder, training, values):
    base = Path(folder).parent / "data"
    made = values_of(base, folder, some_rows(20), test=0, training={"mode": training.mode, "final": "none"}, **values)
    made["run_dir"] = str(base / "no-run")
    return replace(read_config(made, Path("/")), training=training)


def test_snapshots_are_taken_at_the_ends_of_cycles() -> None:
    """Of 200 epochs, from 100 on, five: 120, 140, 160, 180, 200."""
    assert Snapshots(5, 0.5).bounds(200) == [100, 120, 140, 160, 180, 200]
    assert Snapshots(3, 0.0).bounds(10) == [0, 3, 6, 10]
    assert Snapshots(4, 0.9).bounds(6) == [2, 3, 4, 5, 6]
    with pytest.raises(
        UserError, match=r"sampler.passes is 5, but training has only 4 steps; raise training.min_steps"
    ):
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
    rates = kept.rate
    for steps, want in ((8, taken[0]), (10, taken[1])):
        early = Snapshots(1, 0.0)
        monkeypatch.setattr(early, "rate", lambda at, _, *how: rates(at, 12, *how))
        stopped = fine_tune(folder, task, pairs, replace(training, min_steps=steps), 0, early).model
        for name, values in weights(stopped).items():
            torch.testing.assert_close(want[name], values, rtol=1e-5, atol=1e-6, msg=name)
    assert not torch.equal(taken[0]["bert.pooler.dense.weight"], taken[1]["bert.pooler.dense.weight"])


def test_snapshots_of_adapters_are_adapters_alone(folder) -> None:
    pytest.importorskip("peft")
    task, pairs = case("single")
    kept = Snapshots(2, 0.0)
    model = fine_tune(folder, task, pairs, settings("lora", min_steps=6), 0, kept).model
    for state in kept.states:
        assert all("lora_" in name or "classifier" in name for name in state)
    final = weights(model)
    first, last = [weights(each) for each in kept.models(model, lambda m: m.merge_and_unload())]
    for name, values in last.items():
        torch.testing.assert_close(values, final[name], rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(first[name], values) for name, values in last.items())
    assert torch.equal(weights(model)["classifier.weight"], final["classifier.weight"])


def test_without_snapshots_training_is_as_it_was(folder) -> None:
    task, pairs = case("single")
    plain, kept = (fine_tune(folder, task, pairs, settings(), 0, s).model for s in (None, Snapshots(2, 0.5)))
    again = fine_tune(folder, task, pairs, settings(), 0).model
    assert all(map(torch.equal, plain.parameters(), again.parameters()))
    assert not all(map(torch.equal, plain.parameters(), kept.parameters()))


def test_after_a_restart_the_fit_is_done_again_for_its_snapshots(folder, tmp_path) -> None:
    task, pairs = case("single")
    config = replace(_config(folder, settings(), {}), run_dir=str(tmp_path / "run"))
    chosen = make_sampler("snapshots", {"passes": 3})
    store = RunDirectory(tmp_path / "run", None)
    found = []
    try:
        for _ in range(2):
            fitter = Fitter(config, task, Pretrained(folder, task), chosen.keeps)
            model = fitter.fit(pairs, 0, len(pairs), store)  # the second one loads what the first one saved
            about = Fitted(model, pairs, lambda _: 0, None, lambda fitter=fitter: fitter.snapshots(pairs))
            found.append(asked(chosen, about, pairs).passes)
    finally:
        store.close()
    assert torch.equal(*found)


# --- in a run

LONG = {"mode": "full", "learning_rate": 1e-3, "num_train_epochs": 1, "min_steps": 6}
RUNS = {
    "frozen, by default heads": ({"mode": "frozen"}, None, "bald"),
    "frozen laplace": ({"mode": "frozen"}, "laplace", "power_bald"),
    "full, by default dropout": (LONG, None, [{"name": "entropy", "keep": 30}, "batchbald"]),
    "full ensemble": (LONG, {"name": "ensemble", "passes": 2}, "variation_ratio"),
    "full snapshots": (LONG, {"name": "snapshots", "passes": 2}, "mean_std"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_goes_on_asks_what_it_would_have_asked(name, folder, tmp_path) -> None:
    training, sampler, strategy = RUNS[name]
    if isinstance(strategy, list):
        strategy = [{"name": one} if isinstance(one, str) else one for one in strategy]
    questions = []
    for stops in ([2], [1, 2]):
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
    assert len(questions[0]) == 20


def test_a_sampler_that_nobody_needs_changes_nothing(folder, tmp_path) -> None:
    questions = []
    for name in ("ensemble", "snapshots"):
        values = values_of(
            tmp_path / name,
            folder,
            some_rows(40),
            test=0,
            training={"final": "none", **LONG},
            loop={"rounds": 1},
            sampler=name,
        )
        learner = ActiveLearner(read_config(values, Path("/")))
        learner.run()
        assert learner.fitter._kept is None
        questions.append([line["id"] for line in read_lines(Path(values["run_dir"], "queries.jsonl"))])
    assert questions[0] == questions[1]


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
        asked(*fitted(source, task, pairs), pairs)
    assert float(asked(*fitted(source, task, pairs, rate=0.2), pairs).statistics().information().max()) > 0
    make_sampler("mc_dropout", {"rate": 0.1}).check_model(task, source)
    make_sampler("mc_dropout", {}).check_model(task, tiny_model(tmp_path / "with"))


def test_too_many_weights_for_the_exact_form_are_told_of_before_anything_is_asked(folder) -> None:
    exact = make_sampler("laplace", {"form": "exact"})
    task, _ = case("single")
    exact.check_model(task, folder)
    many = task.with_labels([str(at) for at in range(200)])
    with pytest.raises(
        UserError, match=r"sampler\.form is exact, but 200 labels on 32 features are more than 4096 weights"
    ):
        exact.check_model(many, folder)
    exact.check_model(case("multi")[0].with_labels(many.labels), folder)  # a matrix a label
    exact.check_model(case("cross")[0], folder)


def test_heads_may_be_given_in_place_of_its_own(folder) -> None:
    task, pairs = case("single")
    _, about = fitted(folder, task, pairs, passes=2)
    rows = read_rows(about.model, [pairs[0][0]])
    linear = load_model(folder, task).classifier
    head = Head(linear.weight.detach().double(), linear.bias.detach().double())
    torch.testing.assert_close(task.score_rows(rows, head).logits, linear(rows.hidden), rtol=1e-5, atol=1e-6)
