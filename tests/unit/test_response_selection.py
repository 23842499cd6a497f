"""Response selection: rows, both forms, signals, scores, the bank."""

import json

import pytest
import torch
from helpers import WORDS, some_dialogues, tiny_model, values_of, write_lines

from nlp_al.bench import Bench
from nlp_al.config import TRAINING_DEFAULTS, Training, read_config
from nlp_al.decisions import entropy, least_confidence, margin
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Example
from nlp_al.signals.collector import collect
from nlp_al.signals.features import Pretrained, Trained
from nlp_al.signals.loading import load_tokenizer
from nlp_al.tasks import Rows, make_task
from nlp_al.training.frozen import fit_head
from nlp_al.training.full import FineTunedEncoder, fine_tune

FIELDS = {"probs", "embeddings", "gradients"}
FORMS = ("bi-encoder", "cross-encoder")


def task(form="bi-encoder", **options):
    return make_task("response-selection", {"form": form, "max_length": 32, **options})


def pairs_of(rows, kind=None):
    kind = kind or task()
    found = []
    for row in rows:
        inputs, words, label = kind.read(row, None)
        found.append((Example(row["id"], inputs, words), label))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))


def tuned(form, folder, pairs, steps=10, mode="full", **options):
    values = {**TRAINING_DEFAULTS, "learning_rate": 2e-3, "per_device_train_batch_size": 4, "num_train_epochs": 1.0}
    return fine_tune(folder, task(form, **options), pairs, Training(mode, min_steps=steps, arguments=values), 0)


def signals_of(model, examples, fields=FIELDS):
    return collect(model, examples, fields, torch.Generator().manual_seed(0))


# Rows of a data set


def test_reading_a_row():
    row = {"context": ["hi there", {"speaker": "Bob", "text": "hello"}], "candidates": ["a b", "c"], "label": 1}
    assert task().read(row, None) == ({"context": ["hi there", "Bob: hello"], "candidates": ["a b", "c"]}, 7, 1)


@pytest.mark.parametrize("label", [1, "1", 1.0, "c"])
def test_the_label_is_a_position_or_the_text(label):
    assert task().read({"context": "hi", "candidates": ["a", "c"], "label": label}, None)[2] == 1


@pytest.mark.parametrize("label", [None, ""])
def test_a_row_without_a_label(label):
    assert task().read({"context": "hi", "candidates": ["a", "c"], "label": label}, None)[2] is None


@pytest.mark.parametrize(
    ("row", "role", "told"),
    [
        ({"context": []}, "context", "the context is empty"),
        ({"context": [" "]}, "context", "the context is empty"),
        ({"context": [3]}, "context", "is no turn"),
        ({"candidates": []}, "candidates", "there are no candidates"),
        ({"candidates": None}, "candidates", "is no list of responses"),
        ({"candidates": ["a", "a"]}, "candidates", "candidate 1 repeats candidate 0"),
        ({"candidates": ["a", " "]}, "candidates", "candidate 1 is empty"),
        ({"label": 2}, None, "the label 2 is no candidate: there are 2, counted from 0"),
        ({"label": -1}, None, "the label -1 is no candidate"),
        ({"label": True}, None, "neither the position nor the text"),
        ({"label": "none"}, None, "neither the position nor the text"),
        ({"label": "what"}, None, "neither the position nor the text"),
    ],
)
def test_a_wrong_row_is_told_in_a_sentence(row, role, told):
    with pytest.raises(UserError, match=told) as error:
        task().read({"context": ["hi"], "candidates": ["a", "b"], "label": 0, **row}, None)
    assert getattr(error.value, "role", None) == role


def test_answers():
    example = Example("a", {"context": ["hi"], "candidates": ["a", "b"]}, 3)
    assert task().readable(1, example)
    assert not any(task().readable(label, example) for label in (2, -1, "1", True, "none", None, [0]))
    assert task(none_of_these="none of these").readable("none", example)


# Rows and signals, by hand


def test_the_fixture_of_a_shared_head():
    kind = task("cross-encoder")
    h = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    rows = Rows(h, torch.tensor([[0.5], [0.3], [0.2]]).log(), torch.tensor([0, 3]))
    decisions = kind.decisions(rows)
    torch.testing.assert_close(decisions.probs, torch.tensor([[0.5, 0.3, 0.2]]))
    torch.testing.assert_close(kind.embeddings(rows), torch.tensor([[0.7, 0.5]]))
    r, hidden, offsets = kind.gradients(rows, decisions)
    torch.testing.assert_close((r * hidden).sum(0), torch.tensor([-0.3, 0.5]))
    assert offsets.tolist() == [0, 3]


def test_contexts_with_few_and_many_candidates_compare():
    rows = Rows(torch.zeros(15, 2), torch.zeros(15, 1), torch.tensor([0, 4, 14, 15]))
    decisions = task("cross-encoder").decisions(rows)
    assert decisions.options.tolist() == [4, 10, 1]
    torch.testing.assert_close(entropy(decisions), torch.tensor([1.0, 1.0, 0.0]))
    assert least_confidence(decisions)[2] == 0
    assert margin(decisions)[2] == 1


def test_the_scores_by_hand():
    orders = [[2, 0, 1], [0, 1], [1, 0, 2, 3, 4, 5], [0]]
    found = task().score(orders, [2, 1, 5, 0])
    assert found == pytest.approx(
        {"recall_at_1": 2 / 4, "recall_at_2": 3 / 4, "recall_at_5": 3 / 4, "mrr": (1 + 1 / 2 + 1 / 6 + 1) / 4}
    )
    assert task(none_of_these="no").score([[2, 0, 1]], ["none"])["mrr"] == 1.0


def test_equal_scores_rank_by_position():
    decisions = task("cross-encoder").decisions(Rows(torch.zeros(3, 2), torch.zeros(3, 1), torch.tensor([0, 3])))
    assert task().predict(decisions) == [[0, 1, 2]]


# The bi-encoder


def by_hand(model, tokenizer, text):
    with torch.inference_mode():
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
    return torch.nn.functional.normalize(hidden.mean(0), dim=0)


def test_a_frozen_head_begins_at_the_cosine(folder):
    pairs = pairs_of(some_dialogues(30))
    encoder = Pretrained(folder, task())
    encoder.encode([e for e, _ in pairs])
    head = encoder.task.trained_head(encoder.model)
    rows = encoder.task.score_rows(encoder.rows([e for e, _ in pairs]), head)
    tokenizer = load_tokenizer(folder)
    at = 0
    for example, _ in pairs[:5]:
        context = by_hand(encoder.model, tokenizer, " [SEP] ".join(example.inputs["context"]))
        for candidate in example.inputs["candidates"]:
            cosine = context @ by_hand(encoder.model, tokenizer, candidate)
            torch.testing.assert_close(rows.logits[at, 0], 20 * cosine, rtol=1e-4, atol=1e-4)
            at += 1


def test_each_distinct_text_is_read_once(folder):
    rows = some_dialogues(20)
    for row in rows:
        row["candidates"] = [*row["candidates"][:1], "the stock", "of bread"]
        row["label"] = 0
    pairs = pairs_of(rows)
    encoder = Pretrained(folder, task())
    seen: list[int] = []
    encoder.model.register_forward_hook(
        lambda _, args, kwargs, out: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    encoder.encode([e for e, _ in pairs])
    distinct = {str(e.inputs["context"]) for e, _ in pairs} | {c for e, _ in pairs for c in e.inputs["candidates"]}
    assert sum(seen) == len(distinct)


def test_the_gradient_is_that_of_autograd(folder):
    pairs = pairs_of(some_dialogues(6))
    encoder = Pretrained(folder, task())
    encoder.encode([e for e, _ in pairs])
    model = fit_head(encoder, encoder.task, pairs)
    r, h, offsets = signals_of(model, [e for e, _ in pairs]).gradients
    rows = encoder.rows([e for e, _ in pairs])
    products = encoder.task.products(rows)
    for at, (start, end) in enumerate(zip(rows.offsets[:-1].tolist(), rows.offsets[1:].tolist(), strict=True)):
        weight = model.head.weight[0].float().clone().requires_grad_()
        scores = products[start:end] @ weight
        torch.nn.functional.cross_entropy(scores[None], scores.argmax()[None]).backward()
        own = slice(int(offsets[at]), int(offsets[at + 1]))
        torch.testing.assert_close((r[own] * h[own]).sum(0), weight.grad, rtol=1e-4, atol=1e-6)


def test_the_embedding_is_the_context_beside_the_expected_option(folder):
    pairs = pairs_of(some_dialogues(6))
    encoder = Pretrained(folder, task())
    encoder.encode([e for e, _ in pairs])
    signals = signals_of(fit_head(encoder, encoder.task, pairs), [e for e, _ in pairs])
    rows = encoder.rows([e for e, _ in pairs])
    for at, (start, end) in enumerate(zip(rows.offsets[:-1].tolist(), rows.offsets[1:].tolist(), strict=True)):
        expected = signals.probs[at, : end - start] @ rows.hidden[start:end]
        torch.testing.assert_close(signals.embeddings[at], torch.cat([rows.context[at], expected]))


def test_the_loss_is_over_all_options_of_the_batch_each_once(folder):
    kind = task()
    rows = [
        {"context": ["goal"], "candidates": ["the match", "a bank"], "label": 0},
        {"context": ["soup"], "candidates": ["a bank", "old bread", "the oven"], "label": 1},
    ]
    tokenizer = load_tokenizer(folder)
    items = kind.items(tokenizer, [(kind.read(row, None)[0], row["label"]) for row in rows])
    batch = kind.collate(tokenizer, items)
    assert len(batch["options"]["input_ids"]) == 4
    assert batch["labels"].tolist() == [0, 2]
    model = kind.new_model(folder).eval()
    options = torch.stack(
        [by_hand(model, tokenizer, text) for text in ("the match", "a bank", "old bread", "the oven")]
    )
    contexts = torch.stack([by_hand(model, tokenizer, text) for text in ("goal", "soup")])
    want = torch.nn.functional.cross_entropy(20 * contexts @ options.T, torch.tensor([0, 2]))
    torch.testing.assert_close(kind.loss(model, batch), want, rtol=1e-4, atol=1e-4)


def test_a_fine_tuned_encoder_loads_with_transformers_alone(folder, tmp_path):
    import transformers

    pairs = pairs_of(some_dialogues(12))
    model = tuned("bi-encoder", folder, pairs)
    assert isinstance(model, FineTunedEncoder)
    model.save(tmp_path)
    again = Trained(transformers.AutoModel.from_pretrained(tmp_path), load_tokenizer(str(tmp_path)), task(), 4, None)
    examples = [e for e, _ in pairs]
    again.encode(examples)
    model.prepare(examples)
    torch.testing.assert_close(again.rows(examples).hidden, model.encoder.rows(examples).hidden, rtol=1e-5, atol=1e-6)


# The cross-encoder


def test_the_oldest_turns_and_long_candidates_are_cut(folder):
    tokenizer = load_tokenizer(folder)
    kind = task("cross-encoder", max_length=16, max_response_length=5)
    inputs = {"context": ["stadium " * 9, "goal coach"], "candidates": ["bread soup salt oven recipe dinner", "tax"]}
    ((long, short),) = kind.encode(tokenizer, [inputs])
    assert len(long["input_ids"]) == 16
    assert tokenizer.decode(long["input_ids"]).endswith("goal coach [SEP] bread soup salt oven recipe [SEP]")
    assert tokenizer.decode(short["input_ids"]).endswith("goal coach [SEP] tax [SEP]")
    assert kind.too_long(tokenizer, [inputs, {"context": ["goal"], "candidates": ["tax", "loan"]}]) == [True, False]
    bi = task(max_length=8, max_response_length=5)
    ((context,), (candidate,)) = bi.encode(tokenizer, [inputs["context"], inputs["candidates"][0]])
    assert tokenizer.decode(context["input_ids"]) == "[CLS] stadium stadium stadium [SEP] goal coach [SEP]"
    assert tokenizer.decode(candidate["input_ids"]) == "[CLS] bread soup salt [SEP]"
    assert bi.too_long(tokenizer, [inputs["context"], "tax loan"]) == [True, False]
    assert tokenizer.truncation_side == "right"


def test_the_cross_encoders_loss_is_a_softmax_a_context(folder):
    kind, pairs = task("cross-encoder"), pairs_of(some_dialogues(5))
    tokenizer, model = load_tokenizer(folder), kind.new_model(folder).eval()
    batch = kind.collate(tokenizer, kind.items(tokenizer, [(e.inputs, label) for e, label in pairs]))
    losses = []
    for example, label in pairs:
        context = " [SEP] ".join(example.inputs["context"])
        scores = [
            model(**tokenizer(context, candidate, return_tensors="pt")).logits[0, 0]
            for candidate in example.inputs["candidates"]
        ]
        losses.append(torch.nn.functional.cross_entropy(torch.stack(scores)[None], torch.tensor([label])))
    torch.testing.assert_close(kind.loss(model, batch), torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


# Both forms


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["full", "lora"])
def test_fine_tuning_learns_its_examples(form, mode, folder):
    pairs = pairs_of(some_dialogues(24))
    if mode == "lora":
        pytest.importorskip("peft")
    model = tuned(form, folder, pairs, steps=120, mode=mode)
    examples = [e for e, _ in pairs]
    found = task().score(task().predict(signals_of(model, examples, {"probs"}).decisions), [y for _, y in pairs])
    chance = sum(1 / len(e.inputs["candidates"]) for e in examples) / len(examples)
    assert chance < 0.4
    assert found["recall_at_1"] > (0.8 if mode == "full" else 0.6)


@pytest.mark.parametrize("form", FORMS)
def test_padding_batches_order_and_company_change_nothing(form, folder):
    pairs = pairs_of(some_dialogues(14))
    model = tuned(form, folder, pairs)
    examples = [e for e, _ in pairs]
    whole = signals_of(model, examples)
    shuffled = [examples[at] for at in torch.randperm(14, generator=torch.Generator().manual_seed(1)).tolist()]
    for order in (shuffled, examples[3:4], examples[::-1]):
        fresh = tuned(form, folder, pairs)
        part = signals_of(fresh, order)
        for at, example in enumerate(order):
            place = examples.index(example)
            count = int(whole.options[place])
            assert int(part.options[at]) == count
            torch.testing.assert_close(part.probs[at, :count], whole.probs[place, :count], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(part.embeddings[at], whole.embeddings[place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_permuting_the_candidates_permutes_the_probabilities(form, folder):
    pairs = pairs_of(some_dialogues(8))
    model = tuned(form, folder, pairs)
    example = pairs[0][0]
    turned = Example("turned", {**example.inputs, "candidates": example.inputs["candidates"][::-1]}, 1)
    probs = signals_of(model, [example, turned], {"probs"}).probs
    count = len(example.inputs["candidates"])
    torch.testing.assert_close(probs[0, :count], probs[1, :count].flip(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["full", "frozen"])
def test_none_of_these_is_one_more_option(form, mode, folder):
    rows = some_dialogues(24)
    for row in rows[::2]:
        row["candidates"].pop(row["label"])
        row["label"] = "none"
    kind = task(form, none_of_these="nothing fits")
    pairs = pairs_of(rows, kind)
    if mode == "full":
        model = tuned(form, folder, pairs, steps=80, none_of_these="nothing fits")
    else:
        encoder = Pretrained(folder, kind)
        encoder.encode([e for e, _ in pairs])
        model = fit_head(encoder, kind, pairs)
    signals = signals_of(model, [e for e, _ in pairs])
    assert signals.options.tolist() == [len(e.inputs["candidates"]) + 1 for e, _ in pairs]
    found = kind.score(kind.predict(signals.decisions), [y for _, y in pairs])
    assert found["recall_at_1"] > 0.6


def values(tmp_path, folder, rows, **sections):
    made = values_of(
        tmp_path, folder, rows, test=0, task="response-selection", task_options={"max_length": 32}, **sections
    )
    made["dataset"]["data_files"]["test"] = write_lines(tmp_path / "test.jsonl", some_dialogues(30, seed=9, prefix="u"))
    return made


def run_of(config):
    learner = ActiveLearner(config, Bench.of(config))
    learner.run()
    return learner


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("strategy", ["margin", "badge", "coreset", "typiclust", "cal", "entropy", "bert_km"])
def test_a_frozen_run(form, strategy, folder, tmp_path):
    made = values(tmp_path, folder, some_dialogues(60), strategy=strategy)
    made["task_options"]["form"] = form
    learner = run_of(read_config(made, tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["labelled"] for line in lines] == [10, 15, 20, 25]
    assert set(lines[-1]["test"]) == {"recall_at_1", "recall_at_2", "recall_at_5", "mrr"}
    assert all(type(answer.label) is int for answer in learner.pool.answers)


@pytest.mark.parametrize("strategy", ["random", "margin", "coreset", "badge"])
def test_a_single_candidate_is_asked_when_nothing_else_is_left(strategy, folder, tmp_path):
    rows = some_dialogues(30)
    for row in rows[:12]:
        row["candidates"], row["label"] = row["candidates"][:1], 0
    made = values(tmp_path, folder, rows, strategy=strategy, loop={"initial": 5, "batch": 13, "rounds": 2})
    learner = run_of(read_config(made, tmp_path))
    single = {row["id"] for row in rows[:12]}
    asked = [[q.id for q in learner.pool.round_queries(round_)] for round_ in range(3)]
    assert not single & {*asked[0], *asked[1]}
    assert set(asked[2]) <= single


def test_a_pool_without_labels_needs_no_list_of_them(folder, tmp_path):
    rows = [{name: row[name] for name in ("id", "context", "candidates")} for row in some_dialogues(20)]
    made = values(tmp_path, folder, rows, annotator={"name": "jsonl"})
    bench = Bench.of(read_config(made, tmp_path))
    assert bench.task.labels == ()
    with pytest.raises(UserError, match="has no fixed labels"):
        read_config({**made, "labels": ["a", "b"]}, tmp_path)


# The bank


@pytest.mark.parametrize("retriever", ["bm25", "embeddings"])
@pytest.mark.parametrize("form", FORMS)
def test_contexts_draw_candidates_from_a_bank(retriever, form, folder, tmp_path):
    if retriever == "bm25":
        pytest.importorskip("bm25s")
    bank = [f"{word} {other}" for words in WORDS.values() for word in words for other in words if word != other]
    (tmp_path / "bank.txt").write_text("\n".join([*bank, bank[0], ""]))
    rows = [{"id": f"c{at}", "context": [f"the {word}"], "label": None} for at, word in enumerate(WORDS["food"])]
    rows[0]["label"] = "soup salt"
    made = values(tmp_path, folder, rows, annotator={"name": "jsonl"}, loop={"initial": 2})
    del made["dataset"]["data_files"]["test"]
    made["task_options"].update(form=form, bank=str(tmp_path / "bank.txt"), bank_retriever=retriever, bank_candidates=4)
    bench = Bench.of(read_config(made, tmp_path))
    for example in bench.splits["train"]:
        candidates = example.inputs["candidates"]
        assert len(candidates) == len(set(candidates)) == 4
        assert set(candidates) <= set(bank)
        assert example.words == 2 + 8
        if retriever == "bm25" and example.label is None:
            assert all(example.inputs["context"][0].split()[1] in one.split() for one in candidates)
    known = next(e for e in bench.splits["train"] if e.id == "c0")
    assert known.inputs["candidates"][known.label] == "soup salt"


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "can't be read: No such file"), ("a\nb\n", "holds 2 different responses; it must hold more than")],
)
def test_a_bank_that_will_not_do_is_told(text, told, folder, tmp_path):
    if text is not None:
        (tmp_path / "bank.txt").write_text(text)
    rows = [{"id": "a", "context": ["the goal"]}, {"id": "b", "context": ["the tax"]}]
    made = values(tmp_path, folder, rows, annotator={"name": "jsonl"}, loop={"initial": 1})
    del made["dataset"]["data_files"]["test"]
    made["task_options"]["bank"] = str(tmp_path / "bank.txt")
    with pytest.raises(UserError, match=told):
        Bench.of(read_config(made, tmp_path))
