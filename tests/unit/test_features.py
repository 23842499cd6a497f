"""The frozen encoder and its cache."""

import pytest
import torch
from helpers import some_rows, tiny_model, values_of
from safetensors import SafetensorError

from nlp_al.config import read_config
from nlp_al.errors import RunError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Example
from nlp_al.signals import features
from nlp_al.signals.features import FeatureStore, Pretrained, batches_by_length
from nlp_al.tasks import make_task


def texts(count=30, seed=0):
    return [Example(r["id"], r["text"], 1) for r in some_rows(count, seed)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def encoder(folder, **options):
    return Pretrained(folder, make_task("text-classification", options).with_labels(["a", "b"]))


def counted(made: Pretrained) -> list[int]:
    calls: list[int] = []
    made.model.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_features_are_the_mean_of_the_last_layer(folder, cache):
    made, pool = encoder(folder), texts()
    made.encode(pool)
    for example, row in zip(pool[:4], made.rows(pool[:4]).hidden, strict=True):
        with torch.inference_mode():
            hidden = made.model(**made.tokenizer(example.inputs, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(row, hidden.mean(0), rtol=1e-5, atol=1e-6)


def test_each_text_is_read_once_by_all_runs(folder, cache):
    first, pool = encoder(folder), texts()
    first.encode(pool)
    second = encoder(folder)
    calls = counted(second)
    second.encode(pool)
    assert calls == []
    assert torch.equal(first.rows(pool).hidden, second.rows(pool).hidden)


def test_new_texts_alone_are_read(folder, cache):
    made = encoder(folder)
    made.encode(texts(20))
    calls = counted(made)
    made.encode(texts(21))
    assert len(calls) == 1


def test_equal_texts_share_one_row(folder, cache):
    made = encoder(folder)
    twins = [Example("a", "goal team", 2), Example("b", "goal team", 2), Example("c", "bank", 1)]
    made.encode(twins)
    assert len(made.store._where) == 2
    assert torch.equal(made.rows(twins).hidden[0], made.rows(twins).hidden[1])


def test_other_weights_and_other_options_have_a_cache_of_their_own(folder, cache, tmp_path):
    other = tiny_model(tmp_path / "other", seed=1)
    assert (
        len({encoder(folder).store.folder, encoder(other).store.folder, encoder(folder, max_length=8).store.folder})
        == 3
    )


def test_the_same_weights_elsewhere_share_it(folder, cache, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    assert encoder(folder).store.folder == encoder(str(copy)).store.folder


def test_weights_that_a_checkpoint_lacks_are_left_out_of_the_hash(folder, tmp_path):
    """A masked language model has no pooler; AutoModel draws one at random at each load."""
    import transformers

    headed = transformers.BertForMaskedLM(transformers.BertConfig.from_pretrained(folder))
    headed.save_pretrained(tmp_path / "mlm")
    encoder(folder).tokenizer.save_pretrained(tmp_path / "mlm")
    assert encoder(str(tmp_path / "mlm")).weights == encoder(str(tmp_path / "mlm")).weights


def test_rows_come_in_the_order_asked_for_out_of_many_files(folder, cache, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 7)
    made, pool = encoder(folder), texts()
    made.encode(pool)
    assert len(list(made.store.folder.glob("*.safetensors"))) > 1
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = made.rows([pool[i] for i in order]).hidden
    for at, i in enumerate(order):
        torch.testing.assert_close(shuffled[at], made.rows([pool[i]]).hidden[0], rtol=0, atol=0)


def test_ragged_rows_of_sentences_out_of_many_files(folder, cache, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 4)
    made = Pretrained(folder, make_task("token-classification", {}).with_labels(["O"]))
    pool = [Example(e.id, e.inputs.split(), 1) for e in texts(15)]
    made.encode(pool)
    rows = made.rows(pool[::-1])
    assert rows.offsets.diff().tolist() == [len(e.inputs) for e in pool[::-1]]
    last = made.rows(pool[:1]).hidden
    assert torch.equal(rows.hidden[rows.offsets[-2] :], last)


def test_a_file_torn_by_a_crash_is_never_read(folder, cache):
    made, pool = encoder(folder), texts(5)
    (made.store.folder / "half.new").write_bytes(b"\x00" * 10)
    made.encode(pool)
    assert FeatureStore(made.store.folder).missing({e.key: e for e in pool}) == []


def test_features_are_memory_mapped(folder, cache):
    made, pool = encoder(folder), texts()
    made.encode(pool)
    unique = list({e.key: e for e in pool}.values())
    fresh = encoder(folder)
    fresh.encode(pool)
    values, _ = fresh.store.rows([e.key for e in unique])
    whole, _ = fresh.store._tables[0]
    assert values.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


def test_batches_are_of_like_length():
    assert batches_by_length([3, 9, 3, 5], 2) == [[1, 3], [0, 2]]


def test_a_full_disk_under_the_cache_is_told_in_a_sentence(folder, cache, monkeypatch):
    made = encoder(folder)

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(features, "save_file", full)
    with pytest.raises(RunError, match="The disk is full"):
        made.encode(texts(3))


def test_what_a_tokenizer_was_used_for_before_does_not_matter(folder, cache):
    used, fresh = encoder(folder), encoder(folder)
    used.tokenizer(["goal " * 50], truncation=True, max_length=7, padding=True)
    assert used.store.folder == fresh.store.folder


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_what_is_frozen_is_the_same_to_the_byte_in_every_round(mode, folder, cache, tmp_path, monkeypatch):
    """Embeddings of the pretrained encoder never move; those of a model that is fitted again do."""
    training = {"mode": mode, "final": "none", "min_steps": 6, "num_train_epochs": 1, "learning_rate": 1e-3}
    values = values_of(tmp_path, folder, some_rows(40), 0, strategy="coreset", training=training)
    learner = ActiveLearner(read_config(values, tmp_path))
    seen: dict[str, set[bytes]] = {}
    made = learner.fields.of

    def watched(round_, fit, examples, needs, *how):
        found = made(round_, fit, examples, needs, *how)
        if found is not None and found.embeddings is not None and fit.model is not None:
            for example, row in zip(examples, found.embeddings, strict=True):
                seen.setdefault(example.id, set()).add(row.numpy().tobytes())
        return found

    monkeypatch.setattr(learner.fields, "of", watched)
    learner.run()
    assert len(seen) == 40
    kinds = {len(rows) for rows in seen.values()}
    assert kinds == {1} if mode == "frozen" else max(kinds) == 3
