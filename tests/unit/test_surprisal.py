"""What a masked language model finds surprising, and the batches that `alps` makes of it."""

import math

import pytest
import torch
import transformers
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of

from nlp_al.config import read_config
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Example
from nlp_al.signals import SURPRISALS, Signals, surprisal
from nlp_al.signals.surprisal import Surprisal, tokens_that_count
from nlp_al.strategies import make_strategy
from nlp_al.tasks import make_task
from nlp_al.testing import check_strategy


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_head(folder, uniform=False):
    """A checkpoint with a masked-LM head; uniform: one that finds all tokens equally likely."""
    path = tiny_model(folder)
    config = transformers.AutoConfig.from_pretrained(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = transformers.BertForMaskedLM(config)
    if uniform:
        torch.nn.init.zeros_(model.bert.embeddings.word_embeddings.weight)  # shared with the decoder
        torch.nn.init.zeros_(model.cls.predictions.bias)
    else:
        torch.nn.init.normal_(model.bert.embeddings.word_embeddings.weight, generator=seeded(2))
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return with_head(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))


def texts(count=20, seed=0):
    return [Example(r["id"], r["text"], 1) for r in some_rows(count, seed)]


def classify(max_length=32):
    return make_task("text-classification", {"max_length": max_length}).with_labels(["a", "b"])


def test_it_is_the_loss_of_tokens_that_were_drawn(model):
    pool, reader = texts(), Surprisal(model, classify())
    found = reader.of(pool, 3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    whole = transformers.AutoModelForMaskedLM.from_pretrained(model).eval()
    assert found.shape == (20, max(len(e.inputs.split()) for e in pool))
    for example, row in zip(pool, found, strict=True):
        batch = tokenizer(example.inputs, return_tensors="pt")
        ids = batch["input_ids"][0]
        with torch.inference_mode():
            losses = -whole(**batch).logits[0].log_softmax(1)[torch.arange(len(ids)), ids][1:-1]
        drawn, _ = tokens_that_count(3, example.id, len(losses))
        torch.testing.assert_close(row[: len(losses)], losses * drawn, rtol=1e-4, atol=1e-5)
        assert not row[len(losses) :].any()
    assert 0.05 < float((found > 0).sum()) / sum(len(e.inputs.split()) for e in pool) < 0.3


@pytest.mark.parametrize("masked", [False, True])
def test_neither_the_batch_nor_the_company_changes_what_is_drawn(model, masked, monkeypatch, tmp_path):
    pool = texts()
    found = Surprisal(model, classify(), masked).of(pool, 0)
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(surprisal, "_LOGITS_AT_ONCE", 1)
    alone = Surprisal(model, classify(), masked, batch_size=1)
    for at in (3, 0, 11):
        row = alone.of([pool[at]], 0)[0]
        torch.testing.assert_close(found[at, : len(row)], row, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found > 0, Surprisal(model, classify(), masked).of(pool, 1) > 0)
    twins = [Example("a", pool[0].inputs, 1), Example("b", pool[0].inputs, 1)]
    rows = [Surprisal(model, classify(), masked).of(twins, seed) > 0 for seed in range(12)]
    assert any(not torch.equal(first, second) for first, second in rows)


def test_where_all_tokens_are_equally_likely_each_loss_is_ln_v(tmp_path):
    path, pool = with_head(tmp_path / "model", uniform=True), texts(40)
    for masked in (False, True):
        found = Surprisal(path, classify(), masked).of(pool, 0)
        vocabulary = transformers.AutoConfig.from_pretrained(path).vocab_size
        assert found[found > 0].tolist() == pytest.approx([math.log(vocabulary)] * int((found > 0).sum()), rel=1e-5)
        unit = torch.nn.functional.normalize(found, dim=1)
        counts = (found > 0).sum(1)
        for row, count in zip(unit, counts.tolist(), strict=True):
            assert row[row > 0].tolist() == pytest.approx([max(count, 1) ** -0.5] * count)


def test_tokens_are_masked_before_they_are_read(model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    reader = Surprisal(model, classify(), masked=True)
    text = " ".join(["goal team bank soup"] * 250)
    reader._passages.task = classify(2000)
    ((piece,),) = reader._passages.encode(tokenizer, [[0, "x", text]])
    before = torch.tensor(tokenizer(text)["input_ids"])
    after, targets = torch.tensor(piece["input_ids"]), torch.tensor(piece["targets"])
    counts = targets >= 0
    assert torch.equal(targets[counts], before[counts])
    assert torch.equal(after[~counts], before[~counts])
    share = float(counts.sum()) / 1000
    masked = float((after == tokenizer.mask_token_id).sum()) / float(counts.sum())
    kept = float((after == before)[counts].sum()) / float(counts.sum())
    assert 0.11 < share < 0.19
    assert 0.7 < masked < 0.9
    assert 0.02 < kept < 0.2


def test_texts_are_read_once_for_all_seeds_and_runs(model):
    reader = Surprisal(model, classify())
    reader.of(texts(), 0)
    again = Surprisal(model, classify())
    calls = []
    again.model.register_forward_hook(lambda *_: calls.append(1))
    again.of(texts(), 1)
    assert calls == []
    masked = Surprisal(model, classify(), masked=True)
    assert masked.store.folder != again.store.folder


def test_of_a_sentence_the_words_are_read_and_of_a_dialogue_the_end_of_its_context(model):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tags = make_task("token-classification", {"max_length": 6}).with_labels(["O", "B-X", "I-X"])
    sentence = some_sentences(1)[0]["tokens"]
    ((piece,),) = Surprisal(model, tags)._passages.encode(tokenizer, [tags.passage(sentence, tokenizer)])
    assert tokenizer.convert_ids_to_tokens(piece["input_ids"])[1:-1] == sentence[:4]
    for form in ("bi-encoder", "cross-encoder"):
        select = make_task("response-selection", {"max_length": 8, "form": form}).with_labels([])
        inputs = {"context": ["goal team coach", "bank market stock price loan"], "candidates": ["soup", "salt"]}
        assert Surprisal(model, select).of([Example("a", inputs, 1)], 0).shape == (1, 5)
        ((piece,),) = Surprisal(model, select)._passages.encode(tokenizer, [select.passage(inputs, tokenizer)])
        read = tokenizer.convert_ids_to_tokens(piece["input_ids"])
        assert read == ["[CLS]", "[SEP]", "bank", "market", "stock", "price", "loan", "[SEP]"]
        assert piece["counted"] == [0, 0, 1, 1, 1, 1, 1, 0]


def test_weights_without_a_head_are_told_in_one_sentence(tmp_path):
    bare = tiny_model(tmp_path / "bare")
    decoder = tmp_path / "decoder"
    tiny_model(decoder)
    config = transformers.GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    transformers.GPT2Model(config).save_pretrained(decoder)
    for path in (bare, str(decoder)):
        with pytest.raises(UserError, match=r"whose weights have no masked-LM head, which strategy alps needs"):
            Surprisal(path, classify()).of(texts(), 0)


@pytest.mark.parametrize("masked", [False, True])
def test_entropies_are_of_what_the_model_expects_at_the_same_tokens(model, masked):
    pool = texts()
    reader, losses = Surprisal(model, classify(), masked, entropy=True), Surprisal(model, classify(), masked)
    found = reader.of(pool, 3)
    assert torch.equal(found > 0, losses.of(pool, 3) > 0)
    assert reader.store.folder != losses.store.folder
    whole = transformers.AutoModelForMaskedLM.from_pretrained(model).eval()
    for example, row in zip(pool, found, strict=True):
        passage = [3, example.id, example.inputs] if masked else example.inputs
        ((piece,),) = reader._passages.encode(reader.tokenizer, [passage])
        with torch.inference_mode():
            logits = whole(input_ids=torch.tensor([piece["input_ids"]])).logits[0]
        entropies = torch.distributions.Categorical(logits=logits[1:-1]).entropy()
        drawn, _ = tokens_that_count(3, example.id, len(entropies))
        torch.testing.assert_close(row[: len(entropies)], entropies * drawn, rtol=1e-4, atol=1e-5)


def test_where_all_tokens_are_equally_likely_each_entropy_is_ln_v_as_well(tmp_path):
    path = with_head(tmp_path / "model", uniform=True)
    vocabulary = transformers.AutoConfig.from_pretrained(path).vocab_size
    found = Surprisal(path, classify(), entropy=True).of(texts(), 0)
    assert found[found > 0].tolist() == pytest.approx([math.log(vocabulary)] * int((found > 0).sum()), rel=1e-5)


def test_each_field_has_its_reader(model):
    made = {name: Surprisal.of_field(name, model, classify())._passages for name in SURPRISALS}
    assert {name: (own.masked, own.entropy) for name, own in made.items()} == {
        "surprisal": (False, False),
        "masked_surprisal": (True, False),
        "mlm_entropy": (False, True),
        "masked_mlm_entropy": (True, True),
    }
    for masked in (False, True):
        for entropy in (False, True):
            strategy = make_strategy("alps", masked=masked, mlm_entropy=entropy)
            (name,) = strategy.needs
            assert (made[name].masked, made[name].entropy) == (masked, entropy)
            assert not strategy.needs_model
    check_strategy(make_strategy("alps", masked=True, mlm_entropy=True), shapes=("single",))


# --- the strategy


def chosen(vectors: torch.Tensor, count: int, seed: int = 0, **parameters: object) -> list[int]:
    strategy = make_strategy("alps", **parameters)
    (field,) = strategy.needs
    return strategy.select(Signals(**{field: vectors}), count, seeded(seed)).indices.tolist()


def test_each_direction_is_asked_about_once_whatever_its_length() -> None:
    """By distance the long ones would be two clusters, and the short ones together a third."""
    directions = torch.eye(3).repeat(10, 1) + 0.01 * torch.rand(30, 3, generator=seeded(0))
    lengths = torch.tensor([100.0, 1.0, 1.0, 1000.0, 1.0, 1.0]).repeat(5)[:, None]
    for masked in (False, True):
        found = chosen(directions * lengths, 3, masked=masked)
        assert sorted(at % 3 for at in found) == [0, 1, 2]


def test_what_clusters_do_not_fill_is_drawn_without_replacement() -> None:
    vectors = torch.eye(3).repeat(10, 1)
    draws = set()
    for seed in range(10):
        found = chosen(vectors, 12, seed)
        assert len(set(found)) == 12
        assert sorted(at % 3 for at in found[:3]) == [0, 1, 2]
        draws.add(tuple(found[3:]))
    assert len(draws) > 5


def test_texts_of_which_nothing_was_drawn_come_behind_at_random() -> None:
    vectors = torch.cat([torch.zeros(30, 3), torch.eye(3)])
    firsts = set()
    for seed in range(10):
        found = chosen(vectors, 5, seed)
        assert sorted(found[:3]) == [30, 31, 32]
        firsts.add(found[3])
    assert len(firsts) > 3
    assert len({tuple(chosen(torch.zeros(9, 3), 4, seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("masked", [False, True])
def test_a_run_begins_with_it_and_goes_on_with_it(tmp_path, model, masked):
    stage = {"masked": masked}
    values = values_of(
        tmp_path, model, some_rows(60), initial={"strategy": "alps", **stage}, strategy={"name": "alps", **stage}
    )
    values["loop"]["rounds"] = 1
    config = read_config(values, tmp_path)
    ActiveLearner(config).run()
    asked = read_lines(tmp_path / "run" / "queries.jsonl")
    assert len({query["id"] for query in asked}) == 15
    other = read_config({**values, "run_dir": str(tmp_path / "again")}, tmp_path)
    ActiveLearner(other).run()
    assert [q["id"] for q in read_lines(tmp_path / "again" / "queries.jsonl")] == [q["id"] for q in asked]


def test_dialogues_begin_with_it(tmp_path, model):
    values = values_of(tmp_path, model, some_dialogues(40), test=0, initial={"strategy": "alps"})
    values |= {"task": "response-selection", "task_options": {"max_length": 32}}
    values["loop"]["rounds"] = 0
    ActiveLearner(read_config(values, tmp_path)).run()
    assert len(read_lines(tmp_path / "run" / "queries.jsonl")) == 10
