"""Training the rows of the token embeddings that the labelled texts use, and no others.

A few hundred labelled texts use some hundred tokens of 30,000 to 250,000. The gradients of all other rows are 0, yet
an optimizer reads and writes each of them, with two moments, at every step: half of all weights in BERT-base's small
relatives, two thirds in XLM-R. AdamW leaves a row without gradient alone but for weight decay, which is the same factor
for all of them. So they stay out of training, and the factor is read off one row more, of ones, that no text uses.
The weights after it are those of training the whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

State = dict[str, torch.Tensor]

ADAMW = ("adamw_torch", "adamw_torch_fused")
"""Optimizers of Trainer that treat each weight by itself, and one without gradient by weight decay alone."""


class UsedRows(nn.Module):
    """Stands in for an embedding whose other rows are not looked up: the same ids in, the same vectors out."""

    row_of: torch.Tensor

    def __init__(self, table: nn.Embedding, used: torch.Tensor) -> None:
        super().__init__()
        self.padding_idx = table.padding_idx
        weight = table.weight.detach()
        # One past the end for what is not used: a look-up there is an error, not a wrong vector.
        rows = torch.full((len(weight),), len(used) + 1, dtype=torch.long, device=weight.device)
        rows[used] = torch.arange(len(used), device=weight.device)
        self.register_buffer("row_of", rows)
        self.weight = nn.Parameter(torch.cat([weight[used], weight.new_ones(1, weight.shape[1])]))
        self._padding_row = None if self.padding_idx is None else int(rows[self.padding_idx])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [...] -> [..., d]."""
        return nn.functional.embedding(self.row_of[ids], self.weight, self._padding_row)


@contextmanager
def used_rows(model: nn.Module, ids: Iterable[int], optimizer: str) -> Iterator[Callable[[State], State]]:
    """While it lasts, `model` trains the embeddings of `ids` alone; after it, the whole table is there again.

    What it gives takes, after it, parameters by name that were noted while it lasted: it puts the table back to where
    it was then, and returns the others.

    It does nothing where that would change the result: another optimizer than AdamW, a table that is not trained, is
    shared with an output layer, or is more than a plain look-up.
    """
    table = model.get_input_embeddings()  # type: ignore[operator]
    if optimizer not in ADAMW or not _plain(table) or _shared(model, table):
        yield dict
        return
    padding = [] if table.padding_idx is None else [table.padding_idx]
    used = torch.tensor(sorted({*ids, *padding}))
    small = UsedRows(table, used)
    model.set_input_embeddings(small)  # type: ignore[operator]
    name = next(name for name, values in model.named_parameters() if values is small.weight)

    decayed = small.weight.detach()[-1].clone()

    def put(state: State) -> State:
        rows = state[name].to(table.weight.device)
        with torch.no_grad():
            table.weight.mul_(rows[-1] / decayed.to(rows.device))
            table.weight[used] = rows[:-1]
        decayed.copy_(rows[-1])
        return {other: values for other, values in state.items() if other != name}

    try:
        yield put
    finally:
        put({name: small.weight.detach()})
        model.set_input_embeddings(table)  # type: ignore[operator]


def _plain(table: nn.Module) -> bool:
    return (
        type(table) is nn.Embedding
        and table.weight.requires_grad
        and table.max_norm is None
        and not table.sparse
        and not table.scale_grad_by_freq
    )


def _shared(model: nn.Module, table: nn.Module) -> bool:
    return sum(p is table.weight for _, p in model.named_parameters(remove_duplicate=False)) > 1
