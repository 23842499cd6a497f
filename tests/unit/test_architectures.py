"""Every kind of encoder and tokenizer: fine-tuning goes through, a row a word, and padding changes nothing."""

import pytest
import torch
import transformers
from helpers import COMMON, WORDS, some_rows, tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from nlp_al.config import TRAINING_DEFAULTS, Training
from nlp_al.pool import Example
from nlp_al.signals.collector import collect
from nlp_al.signals.features import Pretrained
from nlp_al.signals.loading import load_tokenizer
from nlp_al.tasks import make_task
from nlp_al.training.full import fine_tune, load_model, scorer_of

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
KINDS = {
    "BERT": ("Bert", "pieces", {}),
    "ELECTRA": ("Electra", "pieces", {"embedding_size": 8}),
    "DistilBERT": ("DistilBert", "pieces without types", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}),
    "RoBERTa": ("Roberta", "bytes", {**ENDS, "pad_token_id": 0, "type_vocab_size": 1}),
    "DeBERTa-v2": ("DebertaV2", "unigrams", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "ModernBERT": ("ModernBert", "bytes", {**ENDS, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}),
    "GPT-2": ("GPT2", "bytes without padding", {**ENDS, "n_embd": 16, "n_layer": 2, "n_head": 2}),
    "Llama": ("Llama", "bytes without padding, to the left", ENDS),
}
TEXTS = [row["text"] for row in some_rows(60)]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


def tokenizer_of(kind):
    """A tokenizer of this kind, trained on the texts of `some_rows`."""
    settings = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if kind.startswith("bytes"):
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet)
    else:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=SPECIAL, unk_token="<unk>")
    made.train_from_iterator(TEXTS, trainer)
    if "without padding" in kind:
        del settings["pad_token"]
    else:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    side = "left" if "left" in kind else "right"
    names = ["input_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, padding_side=side, model_input_names=names, **settings
    )


@pytest.fixture(scope="module", params=KINDS)
def source(request, tmp_path_factory):
    """A folder with weights drawn at random and a tokenizer."""
    name, kind, more = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    if kind.startswith("pieces"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model(folder))
        if "without types" in kind:
            tokenizer.model_input_names = ["input_ids", "attention_mask"]
    else:
        tokenizer = tokenizer_of(kind)
    tokenizer.save_pretrained(folder)
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **SIZES, **more)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)


def task_and_pool(name, **options):
    rows = some_rows(24)
    if name == "text-classification":
        pool = [Example(row["id"], row["text"], 1, row["label"]) for row in rows]
        return make_task(name, options).with_labels(["sport", "money", "food"]), pool
    pool = []
    for row in rows:
        words = row["text"].split()
        tags = ["B-X" if word in WORDS["sport"] else "O" for word in words]
        pool.append(Example(row["id"], words, len(words), tags))
    return make_task(name, options).with_labels(["O", "B-X", "I-X"]), pool


def trained(source, name, **options):
    task, pool = task_and_pool(name, **options)
    arguments = {**TRAINING_DEFAULTS, "max_steps": 3, "per_device_eval_batch_size": 8}
    made = fine_tune(source, task, [(e, e.label) for e in pool], Training(min_steps=0, arguments=arguments), seed=0)
    return made, pool


@pytest.mark.parametrize("name", ["text-classification", "token-classification"])
def test_fine_tuned_and_asked_padding_changes_nothing(source, name, tmp_path):
    model, pool = trained(source, name)
    fields = {"probs", "embeddings", "gradients"}
    together = collect(model, pool, fields, torch.Generator())
    count = len if name == "token-classification" else lambda _: 1
    assert together.offsets.diff().tolist() == [count(example.inputs) for example in pool]
    for at, example in enumerate(pool):
        alone, same = collect(model, [example], fields, torch.Generator()), together.take(torch.tensor([at]))
        for field in ("probs", "embeddings"):
            torch.testing.assert_close(getattr(alone, field), getattr(same, field), rtol=1e-5, atol=1e-5)
        for mine, other in zip(alone.gradients, same.gradients, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)
    # The hidden states are those that the logits were made of, and the saved model says the same.
    rows = model.rows(model.prepare(pool[:3])[0])
    head = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)][-1]
    torch.testing.assert_close(head(rows.hidden), rows.logits, rtol=1e-4, atol=1e-5)
    model.save(tmp_path)
    again = transformers.AutoConfig.from_pretrained(tmp_path)
    assert again.pad_token_id is not None
    assert load_tokenizer(str(tmp_path)).pad_token_id == load_tokenizer(source).pad_token_id


@pytest.mark.parametrize("name", ["text-classification", "token-classification"])
def test_gradients_reach_the_words_and_padding_changes_nothing(source, name):
    task, pool = task_and_pool(name)
    torch.manual_seed(0)
    model = load_model(source, task)
    for weight in model.parameters():
        weight.data *= 4  # or all say nearly the same
    model = scorer_of(model, load_tokenizer(source), task, Training(arguments=dict(TRAINING_DEFAULTS)))
    scores = {"scores.egl_word", 'scores.adv_deepfool {"steps": 2}', 'scores.adv_bim {"steps": 2}'}
    together = collect(model, pool[:6], scores, torch.Generator()).scores
    for at, example in enumerate(pool[:6]):
        alone = collect(model, [example], scores, torch.Generator()).scores
        for key, values in together.items():
            torch.testing.assert_close(alone[key], values[at : at + 1], rtol=2e-3, atol=1e-6)
    assert bool((together["egl_word"] > 0).all())
    items, _ = model.live().prepare(pool[:6])
    for item, example in zip(items, pool, strict=False):
        words = example.inputs if isinstance(example.inputs, list) else example.inputs.split()
        # A tokenizer may have the first word without the space before it, as another one.
        assert len(set(words)) <= item.words <= len(set(words)) + 1


def test_the_first_tokens_spell_the_words(source):
    tokenizer, (task, _) = load_tokenizer(source), task_and_pool("token-classification")
    words = ["the", "goal", "matchmatch", "‍", "goal", "very", "."]
    ((piece,),) = task.encode(tokenizer, [words])
    starts = [at for at, first in enumerate(piece["first"]) if first]
    assert len(starts) == len(words)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    ends = [*starts[1:], max(at for at, token in enumerate(piece["input_ids"]) if token not in special) + 1]
    spelt = [tokenizer.decode(piece["input_ids"][a:b]).strip() for a, b in zip(starts, ends, strict=True)]
    for word, found in zip(words, spelt, strict=True):
        assert found in (word, tokenizer.unk_token) or (word == "." and tokenizer.unk_token in found)


def test_words_are_read_with_the_spaces_of_running_text(source):
    tokenizer, (task, _) = load_tokenizer(source), task_and_pool("token-classification")
    for text in TEXTS[:20]:
        ((piece,),) = task.encode(tokenizer, [text.split()])
        assert piece["input_ids"] == tokenizer(text)["input_ids"]


def test_windows_hold_each_word_once(source):
    tokenizer, pool = load_tokenizer(source), task_and_pool("token-classification")[1]
    sentences = [[*pool[at].inputs, *pool[at + 1].inputs, *COMMON] for at in range(10)]
    whole, _ = task_and_pool("token-classification", max_length=512)
    short, _ = task_and_pool("token-classification", max_length=12)
    encoded = [task.encode(tokenizer, sentences) for task in (short, whole)]
    for words, pieces, (one,) in zip(sentences, *encoded, strict=True):
        assert len(pieces) > 1
        assert max(len(piece["input_ids"]) for piece in pieces) == 12
        picked = [i for p in pieces for i, first in zip(p["input_ids"], p["first"], strict=True) if first]
        assert picked == [i for i, first in zip(one["input_ids"], one["first"], strict=True) if first]
        assert len(picked) == len(words)


def test_frozen_features_have_a_row_a_word(source, tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path))
    task, pool = task_and_pool("token-classification", max_length=8)
    encoder = Pretrained(source, task)
    encoder.encode(pool)
    assert encoder.rows(pool).offsets.diff().tolist() == [len(example.inputs) for example in pool]
