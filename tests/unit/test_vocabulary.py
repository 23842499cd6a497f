"""Training some rows of the token embeddings gives the weights of training them all."""

from contextlib import nullcontext

import pytest
import torch
import transformers
from helpers import some_rows, tiny_model

from nlp_al.config import TRAINING_DEFAULTS, Training
from nlp_al.pool import Example
from nlp_al.tasks import make_task
from nlp_al.training import full
from nlp_al.training.vocabulary import UsedRows, used_rows

IDS = torch.tensor([[5, 9, 3, 1, 1], [2, 9, 9, 7, 3]])
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
KINDS = {
    "Bert": {},
    "Roberta": {"pad_token_id": 1},  # its positions are counted from the ids that are not padding
    "Electra": {"embedding_size": 8},
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "ModernBert": {"pad_token_id": 1, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "Llama": {"pad_token_id": 1},  # its answer is read at the last id that is not padding
}


def of_kind(kind):
    config = getattr(transformers, f"{kind}Config")(vocab_size=20, **SIZES, **KINDS[kind])
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()


def trained(model, decay):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=decay)
    for _ in range(4):
        model(input_ids=IDS, attention_mask=(IDS != 1).long(), labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: values.detach().clone() for name, values in model.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_weights_are_those_of_training_the_whole_table(kind, decay):
    want = trained(of_kind(kind), decay)
    model = of_kind(kind)
    table = model.get_input_embeddings()
    with used_rows(model, set(IDS.flatten().tolist()), "adamw_torch"):
        assert isinstance(model.get_input_embeddings(), UsedRows)
        trained(model, decay)
    assert model.get_input_embeddings() is table
    got = model.state_dict()
    assert got.keys() == want.keys()
    for name, values in want.items():
        torch.testing.assert_close(got[name], values, rtol=1e-5, atol=1e-6, msg=name)


def test_fine_tuning_gives_the_weights_of_training_the_whole_table(tmp_path, monkeypatch):
    folder = tiny_model(tmp_path)
    task = make_task("text-classification", {}).with_labels(["sport", "money", "food"])
    pairs = [(Example(r["id"], r["text"], 1), r["label"]) for r in some_rows(6)]
    training = Training(min_steps=12, arguments={**TRAINING_DEFAULTS, "weight_decay": 0.2, "learning_rate": 1e-3})
    few = full.fine_tune(folder, task, pairs, training, seed=0).model.state_dict()
    monkeypatch.setattr(full, "used_rows", lambda *_: nullcontext())
    for name, values in full.fine_tune(folder, task, pairs, training, seed=0).model.state_dict().items():
        torch.testing.assert_close(few[name], values, rtol=1e-4, atol=1e-6, msg=name)


def test_a_token_outside_the_rows_is_an_error_not_another_vector():
    small = UsedRows(torch.nn.Embedding(20, 4), torch.tensor([3, 7]))
    with pytest.raises(IndexError):
        small(torch.tensor([5]))


@pytest.mark.parametrize("case", ["other optimizer", "shared with the output", "not trained"])
def test_where_the_result_would_change_the_whole_table_is_trained(case):
    model = of_kind("Bert")
    table = model.get_input_embeddings()
    if case == "shared with the output":
        model.extra = torch.nn.Linear(16, 20)
        model.extra.weight = table.weight
    if case == "not trained":
        table.weight.requires_grad_(False)
    with used_rows(model, {3}, "adafactor" if case == "other optimizer" else "adamw_torch_fused"):
        assert model.get_input_embeddings() is table
