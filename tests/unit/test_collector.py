"""The one pass over examples: what it returns does not depend on how the work is cut up."""

from dataclasses import replace

import pytest
import torch
from helpers import some_rows, tiny_model

from nlp_al.config import TRAINING_DEFAULTS, Training
from nlp_al.pool import Example
from nlp_al.signals import Signals, merging
from nlp_al.signals.collector import PROVIDERS, _waves, collect
from nlp_al.signals.loading import load_tokenizer
from nlp_al.signals.merging import ordered
from nlp_al.signals.sampled import Sampled
from nlp_al.tasks import make_task
from nlp_al.testing import blocks_of, synthetic_signals
from nlp_al.training.full import FineTuned, load_model

FIELDS = {"probs", "embeddings", "gradients"}


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def scorer(folder, task_name, labels, batch_size=8):
    torch.manual_seed(3)
    task = make_task(task_name, {}).with_labels(labels)
    training = Training(arguments={**TRAINING_DEFAULTS, "per_device_eval_batch_size": batch_size})
    return FineTuned(load_model(folder, task), load_tokenizer(folder), task, training)


def texts():
    return [Example(r["id"], r["text"], len(r["text"].split())) for r in some_rows(40)]


def sentences():
    return [Example(e.id, e.inputs.split(), e.words) for e in texts()]


@pytest.fixture(params=["text-classification", "token-classification"])
def case(request, folder):
    labels = ["a", "b", "c"] if request.param == "text-classification" else ["O", "B-X", "I-X"]
    pool = texts() if request.param == "text-classification" else sentences()
    return lambda size=8: scorer(folder, request.param, labels, size), pool


def assert_same(left: Signals, right: Signals) -> None:
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(left.probs, right.probs, **close)
    torch.testing.assert_close(left.embeddings, right.embeddings, **close)
    assert left.offsets.tolist() == right.offsets.tolist()
    for mine, other in zip(left.gradients, right.gradients, strict=True):
        torch.testing.assert_close(mine, other, **close)


def test_batch_size_and_padding_change_nothing(case):
    make, pool = case
    assert_same(collect(make(40), pool, FIELDS, generator()), collect(make(3), pool, FIELDS, generator()))


def test_each_example_alone_says_the_same(case):
    make, pool = case
    model = make(8)
    together = collect(model, pool, FIELDS, generator())
    alone = ordered([([at], collect(model, [example], FIELDS, generator())) for at, example in enumerate(pool)])
    assert_same(together, alone)


def test_order_of_the_pool_is_order_of_the_signals(case):
    make, pool = case
    model = make(8)
    order = torch.randperm(len(pool), generator=generator())
    shuffled = collect(model, [pool[i] for i in order.tolist()], FIELDS, generator())
    assert_same(collect(model, pool, FIELDS, generator()).take(order), shuffled)


def test_probabilities_are_those_of_the_model(folder):
    model = scorer(folder, "text-classification", ["a", "b", "c"])
    pool = texts()
    found = collect(model, pool, {"probs"}, generator())
    for at, example in enumerate(pool[:5]):
        with torch.inference_mode():
            logits = model.model(**model.tokenizer(example.inputs, return_tensors="pt")).logits
        torch.testing.assert_close(found.probs[at], logits.softmax(1)[0], rtol=1e-5, atol=1e-6)


def test_embeddings_are_what_the_last_layer_reads(folder):
    model = scorer(folder, "text-classification", ["a", "b", "c"])
    found = collect(model, texts(), {"probs", "embeddings"}, generator())
    logits = model.model.classifier(found.embeddings)
    torch.testing.assert_close(logits.softmax(1), found.probs, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_the_loss(folder):
    """Against autograd: the last layer's weight gradient of the loss under the predicted label."""
    model = scorer(folder, "text-classification", ["a", "b", "c"])
    pool = texts()[:6]
    r, h, _ = collect(model, pool, {"gradients"}, generator()).gradients
    for at, example in enumerate(pool):
        model.model.zero_grad()
        logits = model.model(**model.tokenizer(example.inputs, return_tensors="pt")).logits
        torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
        torch.testing.assert_close(torch.outer(r[at], h[at]), model.model.classifier.weight.grad, rtol=1e-4, atol=1e-6)


def test_fields_of_one_pass_share_its_forward(folder):
    model = scorer(folder, "text-classification", ["a", "b", "c"], batch_size=10)
    calls = []
    model.model.register_forward_hook(lambda *_: calls.append(1))
    collect(model, texts(), FIELDS, generator())
    assert len(calls) == 4


def test_a_provider_of_others_is_asked_like_ours(folder, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "cost", lambda model, batch, generator: Signals(cost=torch.ones(len(batch)) * 2))
    found = collect(scorer(folder, "text-classification", ["a", "b"]), texts(), {"cost"}, generator())
    assert found.cost.tolist() == [2.0] * 40


def test_nothing_to_score_is_no_error(case):
    make, _ = case
    assert len(collect(make(), [], {"probs"}, generator())) == 0


def narrowed(part: Signals, width: int) -> Signals:
    def cut(_: str, values: torch.Tensor) -> torch.Tensor:
        return values[:, :width] if values.dim() == 2 else values

    passes = None if part.passes is None else part.passes[:, :, :width]
    sampled = None if part.sampled is None else Sampled(*part.sampled).each(cut)
    unseen = None if part.out_of_fold is None else part.out_of_fold[:, :width]
    return replace(part, probs=part.probs[:, :width], passes=passes, sampled=sampled, out_of_fold=unseen)


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_batches_in_any_order_give_the_whole_record(shape):
    whole = synthetic_signals(shape, 11, labelled=0)
    shuffled = torch.randperm(11, generator=generator()).split(3)
    # A ranking batch is as wide as its own widest row.
    parts = []
    for members in shuffled:
        part = whole.take(members)
        if part.options is not None:
            part = narrowed(part, int(part.options.max()))
        parts.append((members.tolist(), part))
    again = ordered(parts)
    assert parts == []
    torch.testing.assert_close(again.decisions.masked, whole.decisions.masked[:, : again.probs.shape[1]])
    for name in ("offsets", "options", "embeddings", "pretrained", "surprisal", "masked_surprisal", "askable"):
        assert getattr(whole, name) is None or torch.equal(getattr(again, name), getattr(whole, name))
    for one, other in zip(again.gradients, whole.gradients, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("least", [0, 6000, 10**9])
def test_batches_that_are_put_together_on_the_way_give_the_same_record(least, monkeypatch):
    whole = synthetic_signals("sequence", 23, labelled=0)
    monkeypatch.setattr(merging, "PACKED", least)
    found = merging.Batches()
    for members in torch.randperm(23, generator=generator()).split(4):
        found.add(members.tolist(), whole.take(members))
    parts = found.all()
    assert (len(parts) < 6) == (least == 6000)
    again = ordered(parts)
    assert torch.equal(again.probs, whole.probs)
    assert torch.equal(again.gradients[1], whole.gradients[1])
    assert torch.equal(again.embeddings, whole.embeddings)


def test_rows_go_round_while_few_are_held_and_every_process_has_a_batch():
    """Ten batches of three, an eighth of a block being eight examples."""
    batches = [[at] * 3 for at in range(10)]
    with blocks_of(64):
        for least, sizes in ((1, [2, 2, 2, 2, 2]), (4, [4, 4, 2])):
            waves = list(_waves(batches, least))
            assert [len(wave) for wave in waves] == sizes
            assert [batch for wave in waves for batch in wave] == batches
        assert [len(wave) for wave in _waves([[0] * 100, [1] * 100], 1)] == [1, 1]
    assert list(_waves([], 2)) == []


@pytest.mark.parametrize("sharded", [True, False])
def test_a_pool_in_shards_of_one_process_is_the_whole_pool(case, sharded):
    make, pool = case
    model = make(8)
    model.sharded = sharded
    with blocks_of(16):
        found = collect(model, pool, FIELDS, generator(), in_shards=True)
    assert (found.shard.start, found.shard.stop, found.total) == (0, 40, 40)
    whole = collect(model, pool, FIELDS, generator())
    assert torch.equal(found.probs, whole.probs)
    assert torch.equal(found.embeddings, whole.embeddings)
    assert all(map(torch.equal, found.gradients, whole.gradients))
