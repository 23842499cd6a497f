"""Named entity recognition: tags of any scheme, windows over long sentences, raw text, BIO-true decoding, scores."""

import gzip
import itertools
import json
import random
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from helpers import COMMON, tiny_model
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from nlp_al.annotation.noise import swaps
from nlp_al.config import parse_arguments
from nlp_al.dataset import label_names, load_splits
from nlp_al.decisions import Decisions
from nlp_al.errors import UserError
from nlp_al.pool import Example
from nlp_al.signals import Signals
from nlp_al.signals.collector import PROVIDERS
from nlp_al.signals.loading import load_tokenizer
from nlp_al.source import read_dataset
from nlp_al.tasks import Rows, make_task
from nlp_al.tasks.tags import as_bio, spans_of_tags, tag_set, transitions
from nlp_al.tasks.viterbi import best_paths
from nlp_al.tasks.windows import windows

TAGS = ["O", "B-PER", "I-PER"]
CONLL = Path(__file__).parents[3] / "shared" / "data" / "conll2003" / "train.jsonl.gz"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(tiny_model(tmp_path_factory.mktemp("model")))


def ner(labels=TAGS, **options):
    return make_task("token-classification", options).with_labels(labels)


def read(row, names=None, **options):
    return ner((), **options).read(row, names)


def told(row, names=None, **options):
    with pytest.raises(UserError) as error:
        read(row, names, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Rows


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"tokens": [], "tags": []}, "the sentence is empty"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "there are 2 tokens but 1 tags"),
        ({"tokens": "a b", "tags": ["O", "O"]}, "'a b' is no list of words"),
        ({"tokens": ["a"], "tags": "O"}, "'O' is no list of tags"),
        ({"tokens": ["a"], "tags": [None]}, "a tag is missing"),
        ({"tokens": ["a"], "tags": ["PER"]}, "'PER' is no tag; write O, B-TYPE or I-TYPE"),
        ({"tokens": ["a"], "tags": ["B-"]}, "'B-' is no tag; write O, B-TYPE or I-TYPE"),
        ({"text": " \n", "tags": []}, "the text is empty"),
        ({"text": None}, "the text is empty"),
        ({"text": ["a"]}, "['a'] is no text"),
        ({"text": "To Berlin.", "tags": "LOC"}, "'LOC' is no list of spans"),
        (
            {"text": "To Berlin.", "tags": [{"start": 3, "end": 9}]},
            "{'start': 3, 'end': 9} is no span; write {start: 0, end: 4, label: TYPE}",
        ),
        ({"text": "To Berlin.", "tags": ["LOC"]}, "'LOC' is no span; write {start: 0, end: 4, label: TYPE}"),
    ],
)
def test_a_row_that_is_none(row, sentence):
    assert told(row) == sentence


@pytest.mark.parametrize(
    ("spans", "sentence"),
    [
        ([(3, 11)], "the span 3–11 is no part of the text, which has 10 characters"),
        ([(-1, 2)], "the span -1–2 is no part of the text, which has 10 characters"),
        ([(3, 3)], "the span 3–3 is no part of the text, which has 10 characters"),
        ([(3, 9), (0, 9)], "the span 3–9 overlaps the span 0–9; a word can be in one of them only"),
        ([(4, 9)], "the span 4–9 ('erlin') does not keep to whole words; these are 3–9 ('Berlin')"),
        ([(1, 5)], "the span 1–5 ('o Be') does not keep to whole words; these are 0–9 ('To Berlin')"),
        ([(2, 9)], "the span 2–9 (' Berlin') does not keep to whole words; these are 3–9 ('Berlin')"),
        ([(2, 3)], "the span 2–3 (' ') does not keep to whole words; there is no word in it"),
    ],
)
def test_a_span_that_is_none(spans, sentence):
    row = {"text": "To Berlin.", "tags": [{"start": a, "end": b, "label": "LOC"} for a, b in spans]}
    assert told(row) == sentence


@pytest.mark.parametrize(
    ("tags", "bio", "repaired"),
    [
        ("O B-X I-X B-X I-Y", "O B-X I-X B-X B-Y", 1),  # a type of its own has not begun
        ("I-X I-X O I-X", "B-X I-X O B-X", 2),  # IOB1
        ("S-X B-X I-X E-X O E-Y", "B-X B-X I-X I-X O B-Y", 1),  # IOBES
        ("B-X E-X I-X", "B-X I-X B-X", 1),  # after its end an entity does not go on
        ("U-X B-X L-X U-geo-loc", "B-X B-X I-X B-geo-loc", 0),  # BILOU, and a type with a dash
        ("B-X M-X E-X S-X", "B-X I-X I-X B-X", 0),  # BMES
        ("O O", "O O", 0),
    ],
)
def test_every_scheme_is_read_as_bio(tags, bio, repaired):
    made, odd = as_bio(tags.split())
    assert (" ".join(made), len(odd)) == (bio, repaired)


def test_repairs_are_counted_and_told_once():
    task = ner(())
    task.read({"tokens": ["a", "b", "c"], "tags": ["I-X", "O", "I-X"]}, None)
    assert task.read({"tokens": ["a"], "tags": ["I-X"]}, None)[2] == ["B-X"]
    (remark,) = task.remarks()
    assert remark.startswith("3 tags I-X went on with no entity of type X")
    assert task.with_labels(TAGS).remarks() == ner().remarks() == []


def test_a_tag_without_its_beginning_refused():
    assert told({"tokens": ["a", "b"], "tags": ["B-X", "I-Y"]}, invalid_tags="refuse") == (
        "the tag 'I-Y' of word 2 ('b') goes on with an entity that has not begun; correct it, or set "
        "task_options.invalid_tags: repair"
    )
    assert read({"tokens": ["a", "b"], "tags": ["B-X", "E-X"]}, invalid_tags="refuse")[2] == ["B-X", "I-X"]


def test_tags_as_numbers_are_positions():
    assert read({"tokens": ["a", "b"], "tags": [1, 2]}, ["O", "S-X", "E-Y"])[2] == ["B-X", "B-Y"]
    assert told({"tokens": ["a"], "tags": [1]}) == (
        "the tags are numbers, and nothing says what they stand for; list the tags in the order of their numbers under "
        "labels, as [O, B-PER, I-PER]"
    )
    assert "one stands for 'PER', which is no tag" in told({"tokens": ["a"], "tags": [1]}, ["O", "PER"])
    assert told({"tokens": ["a"], "tags": [3]}, ["O", "B-X"]).startswith("the label 3 is not among the 2 labels")
    assert told({"tokens": ["a"], "tags": [-1]}, ["O", "B-X"]) == "a tag is missing"


def test_a_sentence_without_tags_is_unlabelled():
    assert read({"tokens": ["a"], "tags": None})[2] is read({"tokens": ["a"], "tags": []})[2] is None
    assert read({"tokens": ["a"]}) == (["a"], 1, None)


@pytest.mark.parametrize(
    "names",
    [["PER", "LOC"], ["B-PER", "I-LOC"], ["S-PER", "E-LOC", "O"], ["O", "PER", "LOC"], ["I-PER", "B-LOC", "B-PER"]],
)
def test_labels_are_types_or_tags_of_any_scheme(names):
    assert tag_set(names) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert ner(()).label_set(names) == tag_set(names)


def test_a_type_may_look_almost_like_a_tag():
    assert tag_set(["B-cell", "T-cell"]) == ["O", "B-B-cell", "I-B-cell", "B-T-cell", "I-T-cell"]


# Files


def from_file(folder, content, labels=None, path="json", columns=None, **more):
    """(examples of train, labels, remarks) as a run reads them."""
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    (folder / "train").write_text(text, encoding="utf-8")
    section = {"path": path, "data_files": {"train": str(folder / "train")}, "columns": columns or {}, **more}
    task, given = ner(()), labels and dict.fromkeys(labels, "")
    splits = load_splits(read_dataset(section, {"id", *task.columns}), task, given)
    return splits["train"], label_names(task, splits, given), task.remarks()


def test_labels_are_read_off_the_tags_both_halves_of_a_type(tmp_path):
    rows = [{"tokens": ["a", "b"], "tags": ["S-X", "O"]}, {"tokens": ["c", "d"], "tags": ["B-Y", "E-Y"]}]
    examples, labels, remarks = from_file(tmp_path, rows)
    assert labels == ["O", "B-X", "I-X", "B-Y", "I-Y"]
    assert [e.label for e in examples] == [["B-X", "O"], ["B-Y", "I-Y"]]
    assert remarks == []


def test_types_in_the_config_and_a_tag_of_another_one(tmp_path):
    rows = [{"tokens": ["a", "b"], "tags": ["O", "I-X"]}, {"tokens": ["c"], "tags": None}]
    examples, labels, (remark,) = from_file(tmp_path, rows, ["Y", "X"])
    assert labels == ["O", "B-Y", "I-Y", "B-X", "I-X"]
    assert [e.label for e in examples] == [["O", "B-X"], None]
    assert remark.startswith("1 tags I-X went on")
    with pytest.raises(UserError, match=r"Row 1 of the split train has the label 'B-X', which is not under 'labels'"):
        from_file(tmp_path, rows, ["Y", "Z"])


def test_numbers_in_the_order_of_the_labels(tmp_path):
    rows = [{"tokens": ["a", "b"], "tags": [1, 2]}]
    examples, labels, _ = from_file(tmp_path, rows, ["O", "S-X", "B-X"])
    assert (examples[0].label, labels) == (["B-X", "B-X"], ["O", "B-X", "I-X"])
    with pytest.raises(UserError, match=r"^Row 1 of the split train, column 'tags': the tags are numbers, and noth"):
        from_file(tmp_path, rows)


def test_a_text_column_with_spans(tmp_path):
    rows = [
        {"body": "To Berlin.", "entities": [{"start": 3, "end": 9, "label": "LOC"}]},
        {"body": "No.", "entities": []},
    ]
    examples, labels, _ = from_file(tmp_path, rows, columns={"text": "body", "tags": "entities"})
    assert labels == ["O", "B-LOC", "I-LOC"]
    assert examples[0].inputs == {"text": "To Berlin.", "offsets": [[0, 2], [3, 9], [9, 10]]}
    assert [e.label for e in examples] == [["O", "B-LOC", "O"], ["O", "O"]]
    assert [e.words for e in examples] == [3, 2]
    rows[1]["entities"] = [{"start": 1, "end": 2, "label": "LOC"}]
    told = r"^Row 2 of the split train, column 'entities': the span 1–2 \('o'\) does not keep to whole words"
    with pytest.raises(UserError, match=told):
        from_file(tmp_path, rows, columns={"text": "body", "tags": "entities"})


def test_one_of_tokens_and_text(tmp_path):
    both = [{"tokens": ["a"], "text": "a b", "tags": ["O"]}, {"tokens": ["b"], "text": "a b", "tags": ["B-X"]}]
    assert from_file(tmp_path, both)[0][0].inputs == ["a"]  # the words that the tags are of
    with pytest.raises(UserError) as error:
        from_file(tmp_path, both, columns={"tokens": "tokens", "text": "text"})
    assert str(error.value) == ("dataset.columns names both tokens and text; name the one that the model is to read.")
    with pytest.raises(UserError) as error:
        from_file(tmp_path, [{"body": "a", "tags": ["O"]}])
    assert str(error.value) == (
        "The split train has no column 'tokens' or 'text': name one under dataset.columns.tokens or text; "
        "there are: body, tags."
    )
    with pytest.raises(UserError, match=r"no column 'txt' for dataset.columns.text: did you mean 'text'"):
        from_file(tmp_path, both, columns={"text": "txt"})


@pytest.mark.skipif(int(datasets.__version__.split(".")[0]) < 5, reason="datasets 5 reads CoNLL files")
def test_conll_files(tmp_path):
    content = "-DOCSTART- -X- O\n\nTo TO O\nBerlin NNP I-LOC\n\t\n. . O\n"
    examples, labels, (remark,) = from_file(tmp_path, content, path="conll", column_names=["tokens", "pos", "tags"])
    assert [(e.inputs, e.label) for e in examples] == [(["To", "Berlin"], ["O", "B-LOC"]), (["."], ["O"])]
    assert labels == ["O", "B-LOC", "I-LOC"]
    assert remark.startswith("1 tags")
    with pytest.raises(UserError, match=r"^Row 1 of the split train, column 'tags': a tag is missing\."):
        from_file(tmp_path, "To O\nBerlin\n", path="conll", column_names=["tokens", "tags"])


CONFIGS = Path(__file__).parents[2] / "configs" / "ner"


@pytest.mark.parametrize("name", ["conll2003", "wikiann", "local_conll", "local_jsonl", "local_spans"])
def test_the_configs_that_are_shipped_are_valid(tmp_path, name):
    path = shutil.copy(CONFIGS / f"{name}.yaml", tmp_path)
    for file in ("train.txt", "test.txt", "my_sentences.jsonl", "my_texts.jsonl"):
        (tmp_path / file).write_text("x")
    (config,) = parse_arguments(["--config", str(path)], task="token-classification")
    assert config.loop.unit == "words"


# Raw text


def test_a_text_is_split_and_its_spans_become_tags():
    text = "Ada Lovelace's café, 東京 😀 (U.S.)"
    spans = [{"start": 0, "end": 12, "label": "PER"}, {"start": 27, "end": 30, "label": "LOC"}]
    assert text[27:30] == "U.S"
    inputs, cost, tags = read({"text": text, "tags": spans})
    words = ["Ada", "Lovelace", "'", "s", "café", ",", "東京", "😀", "(", "U", ".", "S", ".", ")"]
    assert ner().words(inputs) == words
    assert cost == len(words)
    assert tags == ["B-PER", "I-PER", *["O"] * 7, "B-LOC", "I-LOC", "I-LOC", "O", "O"]
    assert ner().spans(inputs, tags) == spans
    json.dumps(inputs)  # it is hashed, stored and shown as JSON


def test_a_text_without_entities_is_no_unlabelled_text():
    assert read({"text": "To be", "tags": []})[2] == ["O", "O"]
    assert read({"text": "To be", "tags": None})[2] is read({"text": "To be"})[2] is None


def test_neighbouring_spans_stay_two():
    text, spans = "Ada Bob", [{"start": 4, "end": 7, "label": "PER"}, {"start": 0, "end": 3, "label": "PER"}]
    inputs, _, tags = read({"text": text, "tags": spans})
    assert tags == ["B-PER", "B-PER"]
    assert ner().spans(inputs, tags) == spans[::-1]


def test_predicted_tags_without_a_beginning_are_spans_too():
    assert spans_of_tags([[0, 3], [4, 7]], ["O", "I-X"]) == [{"start": 4, "end": 7, "label": "X"}]


def test_both_forms_are_read_alike(tokenizer):
    text = read({"text": "The goal, again"})[0]
    assert ner().encode(tokenizer, [text]) == ner().encode(tokenizer, [["The", "goal", ",", "again"]])
    assert ner().constant("O", Example("a", text, 4)) == ["O"] * 4
    assert ner().readable(["O"] * 4, Example("a", text, 4))


# Tokens and rows


def test_the_first_sub_word_alone_speaks_for_a_word(tokenizer):
    pieces = ner().encode(tokenizer, [["goal", "goal-match", "team"]])[0]
    # [CLS] goal | goal - match | team [SEP]: the second word has three tokens.
    assert [piece["first"] for piece in pieces] == [[0, 1, 1, 0, 0, 1, 0]]
    assert ner().targets(pieces, ["O", "B-PER", "I-PER"]) == [[-100, 0, 1, -100, -100, 2, -100]]


def test_values_of_later_sub_words_and_padding_reach_nothing(tokenizer):
    task = ner()
    (first,), (second,) = task.encode(tokenizer, [["goal", "goal-match"], ["team"]])
    batch = task.pad(tokenizer, [first, second])
    values = torch.arange(batch["input_ids"].numel()).reshape(*batch["input_ids"].shape, 1).float()
    rows, offsets = task.pick_rows(values, batch)
    assert offsets.tolist() == [0, 2, 3]
    assert rows.flatten().tolist() == [1.0, 2.0, 7.0]  # positions 1 and 2 of the first row; position 1 of the second


DROPPED = "‍"  # a zero-width joiner: of it BERT's normalizer leaves nothing


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("word", [DROPPED, " ", ""])
def test_a_word_that_the_tokenizer_drops_keeps_its_row(tokenizer, at, word):
    words = ["goal", "team"]
    words.insert(at, word)
    ((piece,),) = ner().encode(tokenizer, [words])
    tokens = tokenizer.convert_ids_to_tokens(piece["input_ids"])
    expected = ["goal", "team"]
    expected.insert(at, "[UNK]")
    assert [token for token, first in zip(tokens, piece["first"], strict=True) if first] == expected


def test_dropped_words_take_no_tag_from_the_next(tokenizer):
    (odd,), (plain,) = ner().encode(tokenizer, [["goal", DROPPED, " ", "team"], ["goal", "team"]])
    assert odd["input_ids"][1:-1] == [plain["input_ids"][1], *[tokenizer.unk_token_id] * 2, plain["input_ids"][2]]
    assert ner().targets([odd], ["O", "B-PER", "O", "B-PER"]) == [[-100, 0, 1, 0, 1, -100]]


def test_nothing_but_a_word_that_is_dropped(tokenizer):
    ((piece,),) = ner().encode(tokenizer, [[DROPPED]])
    assert piece["first"] == [0, 1, 0]


def test_a_tokenizer_that_is_not_fast_is_told(monkeypatch):
    class Slow:
        is_fast = False

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda _: Slow())
    with pytest.raises(UserError, match=r"model is 'old', which has no fast tokenizer"):
        load_tokenizer("old")


def test_people_choose_among_types():
    task = make_task("token-classification", {}).with_labels(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    assert task.guidelines({"LOC": "places"}) == {"PER": "", "LOC": "places"}


# Windows


def made_sentences(count, seed=0):
    """Words of one to five tokens each, sentences of 1 to 60 words, some of them dropped."""
    draw = random.Random(seed)

    def word():
        return DROPPED if draw.random() < 0.05 else "-".join(draw.choices(COMMON, k=draw.randint(1, 3)))

    return [[word() for _ in range(draw.randint(1, 60))] for _ in range(count)]


def picked(task, tokenizer, sentences):
    """Token and row of each word, by sentence; no piece is longer than the window, and none without a row."""
    found = []
    for pieces in task.encode(tokenizer, sentences):
        assert all(len(piece["input_ids"]) <= task.options.max_length for piece in pieces)
        assert all(any(piece["first"]) for piece in pieces)
        assert all({len(values) for values in piece.values()} == {len(piece["input_ids"])} for piece in pieces)
        found.append([i for p in pieces for i, first in zip(p["input_ids"], p["first"], strict=True) if first])
    return found


@pytest.mark.parametrize(("max_length", "stride"), [(12, None), (12, 0), (12, 9), (7, 3), (3, 0)])
def test_every_word_of_a_long_sentence_has_one_row(tokenizer, max_length, stride):
    sentences = made_sentences(40)
    short = picked(ner(max_length=max_length, stride=stride), tokenizer, sentences)
    assert short == picked(ner(max_length=4096), tokenizer, sentences)
    assert [len(rows) for rows in short] == [len(words) for words in sentences]


def test_windows_share_tokens_and_stand_between_the_special_ones(tokenizer):
    task = ner(max_length=6, stride=2)
    words = ["goal", "team", "coach", "match", "score", "league", "price"]
    (pieces,) = task.encode(tokenizer, [words])
    tokens = [tokenizer.convert_ids_to_tokens(piece["input_ids"]) for piece in pieces]
    assert tokens == [
        ["[CLS]", "goal", "team", "coach", "match", "[SEP]"],
        ["[CLS]", "coach", "match", "score", "league", "[SEP]"],
        ["[CLS]", "match", "score", "league", "price", "[SEP]"],  # moved back: the last one is as long as the others
    ]
    # "coach" has one neighbour to its right in the first window and none to its left in the second one.
    assert [piece["first"] for piece in pieces] == [[0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0]]
    tags = ["O", "B-PER", "I-PER", "O", "B-PER", "I-PER", "O"]
    targets = [at for row in task.targets(pieces, tags) for at in row if at != -100]
    assert [TAGS[at] for at in targets] == tags


@pytest.mark.parametrize(
    ("count", "room", "stride"), [*itertools.product([9, 10, 11, 23, 50], [1, 4, 9], [0, 1, 3, 8])]
)
def test_a_token_is_read_where_it_has_most_context(count, room, stride):
    found = windows(count, room, stride)

    def context(window, at):
        begin, end, _ = window
        left = at - begin if begin else count
        right = end - 1 - at if end < count else count
        return min(left, right) if begin <= at < end else -1

    for at in range(count):
        (reader,) = [window for window in found if at in window[2]]
        assert context(reader, at) == max(context(window, at) for window in found)
    assert all(end - begin <= room for begin, end, _ in found)
    assert all(before[1] - after[0] >= min(stride, room - 1) for before, after in itertools.pairwise(found))


def test_a_window_with_no_room_is_told(tokenizer):
    class Wordy:
        is_fast, unk_token = True, "?"

        def __call__(self, texts, **_):
            from transformers import BatchEncoding

            class Found(BatchEncoding):
                def sequence_ids(self, at):
                    return [None, None, 0, None]

            return Found({"input_ids": [[1, 2, 3, 4]], "offset_mapping": [[(0, 0), (0, 0), (0, 1), (0, 0)]]})

    with pytest.raises(UserError, match=r"max_length is 3, but the tokenizer puts 3 tokens around"):
        ner(max_length=3).encode(Wordy(), [["a"]])


@pytest.mark.skipif(not CONLL.exists(), reason="the data of the workshop is not here")
def test_every_word_of_conll_has_one_row(tokenizer):
    with gzip.open(CONLL, "rt", encoding="utf-8") as lines:
        sentences = [json.loads(line)["tokens"] for line in lines]
    short = picked(ner(max_length=32), tokenizer, sentences)
    assert short == picked(ner(max_length=512), tokenizer, sentences)
    assert [len(rows) for rows in short] == [len(words) for words in sentences]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_length": 2}, "task_options.max_length is 2; it must be at least 3."),
        ({"max_length": 8, "stride": 6}, "task_options.stride is 6; it must be at least 0 and below max_length - 2."),
        ({"stride": -1}, "task_options.stride is -1; it must be at least 0 and below max_length - 2."),
        ({"invalid_tags": "keep"}, "task_options.invalid_tags is 'keep'; it must be repair or refuse."),
    ],
)
def test_options_that_are_wrong(options, sentence):
    with pytest.raises(UserError) as error:
        make_task("token-classification", options)
    assert str(error.value) == sentence


# Models


def test_gradients_of_a_sentence_by_hand():
    """½[(−.3, .3) ⊗ (1, 0) + (.4, −.4) ⊗ (0, 1)] = (−.15, .2, .15, −.2), class by class; its squared norm is .125."""
    probs = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
    offsets = torch.tensor([0, 2])
    hidden = torch.eye(2)
    r, h, _ = ner(["O", "B-X"]).gradients(Rows(hidden, probs.log(), offsets), Decisions(probs, offsets))
    dense = torch.einsum("jr,jd->rd", r, h)
    torch.testing.assert_close(dense.flatten(), torch.tensor([-0.15, 0.2, 0.15, -0.2]))
    assert dense.square().sum().item() == pytest.approx(0.125)


def test_embeddings_of_a_sentence_are_the_mean_of_its_words():
    rows = Rows(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), None, torch.tensor([0, 2, 3]))
    assert ner().embeddings(rows).tolist() == [[2.0, 3.0], [5.0, 6.0]]


def test_a_tag_for_every_word_or_the_answer_is_unreadable():
    example = Example("a", ["goal", "team"], 2)
    assert ner().readable(["O", "B-PER"], example)
    assert not ner().readable(["O"], example)
    assert not ner().readable(["O", "B-ORG"], example)
    assert not ner().readable("O", example)
    assert ner().readable(["O", "I-PER"], example)
    assert not ner(invalid_tags="refuse").readable(["O", "I-PER"], example)


def test_an_answer_without_a_beginning_is_learnt_as_one(tokenizer):
    ((piece,),) = ner().encode(tokenizer, [["goal", "team"]])
    assert ner().targets([piece], ["I-PER", "I-PER"]) == ner().targets([piece], ["B-PER", "I-PER"])
    rows = Rows(torch.eye(4), None, torch.tensor([0, 2, 4]))
    repaired = ner().fit_head(rows, [["I-PER", "I-PER"], ["O", "O"]])
    for mine, other in zip(repaired, ner().fit_head(rows, [["B-PER", "I-PER"], ["O", "O"]]), strict=True):
        assert torch.equal(mine, other)
    assert ner().score([["B-PER", "I-PER"]], [["I-PER", "I-PER"]])["f1"] == 1.0


def test_a_mistaken_answer_has_other_tags():
    example, gold = Example("a", ["x"] * 200, 200), ["O"] * 200
    some, all_ = (swaps("symmetric", rate, "", 0, random.Random(0)) for rate in (0.25, 1.0))
    answer = ner().mistaken(gold, example, some)
    assert 30 < sum(tag != "O" for tag in answer) < 70
    assert set(answer) == set(TAGS)
    assert ner().mistaken(gold, example, all_).count("O") == 0


# Decoding


def test_an_entity_goes_on_only_after_its_own_words():
    allowed = transitions(["O", "B-X", "I-X", "B-Y", "I-Y"]) == 0
    assert allowed.int().tolist() == [
        [1, 1, 0, 1, 0],  # after O
        [1, 1, 1, 1, 0],  # after B-X
        [1, 1, 1, 1, 0],  # after I-X
        [1, 1, 0, 1, 1],
        [1, 1, 0, 1, 1],
        [1, 1, 0, 1, 0],  # at the beginning
    ]
    assert ner().outside == 0
    assert ner(["B-X", "O"]).outside == 1


def test_the_collector_tells_what_may_follow():
    class Model:
        task = ner()

    made = {name: PROVIDERS[name](Model(), ["a", "b"], torch.Generator()) for name in ("transitions", "outside")}
    assert torch.equal(made["transitions"].transitions, transitions(TAGS))
    assert made["outside"].outside == 0
    assert len(made["outside"]) == len(made["transitions"]) == 2
    Model.task = make_task("text-classification", {}).with_labels(["a", "b"])
    assert PROVIDERS["transitions"](Model(), ["a"], torch.Generator()).transitions is None
    assert PROVIDERS["outside"](Model(), ["a"], torch.Generator()).outside is None


def test_constrained_tags_keep_to_bio():
    # By word: O, I-PER. The best valid pair: .3 · .5 (B I) against .6 · .3 (O O) and .6 · .2 (O B).
    probs = torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.2, 0.5], [0.1, 0.1, 0.8]])
    decisions = Decisions(probs, torch.tensor([0, 2, 2, 3]))
    assert ner().predict(decisions) == [["O", "I-PER"], [], ["I-PER"]]
    assert ner(constrained=True).predict(decisions) == [["O", "O"], [], ["O"]]
    surer = Decisions(torch.tensor([[0.5, 0.4, 0.1], [0.2, 0.2, 0.6]]), torch.tensor([0, 2]))
    assert ner(constrained=True).predict(surer) == [["B-PER", "I-PER"]]


def test_best_paths_against_all_sequences():
    generator = torch.Generator().manual_seed(0)
    tags = ["I-X", "O", "B-X", "I-Y", "B-Y"]
    lengths = torch.tensor([3, 0, 4, 1, 3, 2, 4])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    probs = torch.rand(int(offsets[-1]), 5, generator=generator).pow(4)
    probs /= probs.sum(1, keepdim=True)
    found = best_paths(probs, offsets, transitions(tags))
    for start, end in itertools.pairwise(offsets.tolist()):
        rows = probs[start:end].tolist()

        def weight(path, rows=rows):
            named = [tags[at] for at in path]
            valid = not as_bio(named)[1]
            return valid * torch.tensor([row[at] for row, at in zip(rows, path, strict=True)]).double().prod().item()

        best = max(itertools.product(range(5), repeat=end - start), key=weight)
        assert tuple(found[start:end].tolist()) == best


def test_tags_that_no_label_taught_yet_forbid_no_sequence():
    probs = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])  # I-PER alone, which can't begin
    tags = ner(constrained=True).predict(Decisions(probs, torch.tensor([0, 2])))[0]
    assert not as_bio(tags)[1]


def test_a_record_takes_the_rules():
    probs = torch.rand(4, 3).softmax(1)
    Signals(probs=probs, offsets=torch.tensor([0, 4]), transitions=ner().transitions(), outside=0).require(
        {"transitions", "outside"}
    )


# Scores


def test_entities_count_whole_and_strict():
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    # Right: the LOC of the first sentence. Wrong: a PER cut short; strict BIO does not count the one without its B.
    predicted = [["B-PER", "O", "O", "B-LOC"], ["I-PER", "O"]]
    scores = ner().score(predicted, gold)
    whole = {"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5}
    by_type = {"precision_LOC": 1.0, "recall_LOC": 1 / 2, "f1_LOC": 2 / 3}
    by_type |= {"precision_PER": 0.0, "recall_PER": 0.0, "f1_PER": 0.0}
    assert scores == pytest.approx({**whole, **by_type})


def test_types_that_the_gold_tags_lack_have_no_score_of_their_own():
    scores = ner().score([["B-LOC", "B-PER"]], [["O", "B-PER"]])
    assert scores == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3)} | dict.fromkeys(
        ["precision_PER", "recall_PER", "f1_PER"], 1.0
    )


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_seqeval(seed):
    draw = random.Random(seed)
    tags = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    gold, predicted = ([[draw.choice(tags) for _ in range(10)] for _ in range(30)] for _ in range(2))
    gold = [as_bio(row)[0] for row in gold]
    strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    scores = ner().score(predicted, gold)
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert scores[name] == pytest.approx(score(gold, predicted, **strict))
        by_type = score(gold, predicted, **strict, average=None)
        assert [scores[f"{name}_X"], scores[f"{name}_Y"]] == pytest.approx(list(by_type))


@pytest.mark.parametrize("gold", [["B-PER"], ["O"]])
def test_nothing_predicted_is_zero_and_no_warning(gold, recwarn):
    assert set(ner().score([["O"]], [gold]).values()) == {0.0}
    assert not recwarn.list
