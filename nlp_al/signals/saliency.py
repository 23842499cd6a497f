"""What a model looks at: how much each word of an example matters to what the model says of it.

Reference: Simonyan et al., Deep Inside Convolutional Networks (2014), arXiv:1312.6034, and for words times their
embeddings Li et al., Visualizing and Understanding Neural Models in NLP (2016), arXiv:1506.01066
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

import torch
from torch import Tensor

from nlp_al.decisions import Decisions
from nlp_al.signals.features import counts_to_offsets
from nlp_al.signals.live import Item, Live, Reading

Salient = Mapping[str, float]
"""Words of one example as they are written, with their saliency, the most salient first."""


def saliency(live: Live, items: Sequence[Item]) -> list[Salient]:
    """‖∂ log p(ŷ) / ∂e ⊙ e‖₁, e being what the word embeddings make of a token, summed over the tokens of each word.

    log p(ŷ) is the sum over all decisions of the log-probability of what is predicted: the label of a text, yes or no
    of each of several labels, the tag of each word, the candidate of a dialogue. So what is least sure counts the most.
    A word that stands in several places counts in all of them; where several pieces read the same token, as windows
    and pairs do, its gradient is the sum over these. Of a dialogue it is the words of the context.
    """
    found: list[Salient] = []
    for places, reading in live.readings(items):
        part = items[places]
        with live.differentiating():
            offsets, values = _of_tokens(reading, part)
        for item, (start, end) in zip(part, pairwise(offsets.tolist()), strict=True):
            found.append(_by_word(item, values[start:end].tolist()))
    return found + [{}] * (len(items) - len(found))  # the last ones may have no pieces


def _of_tokens(reading: Reading, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
    """int64[n + 1], the spots of each example, and float64[S], the saliency of each spot."""
    moved = reading.unmoved().requires_grad_()
    decisions = reading.decisions(moved)
    kept = Decisions(decisions.probs.detach(), decisions.offsets, decisions.options)
    chosen = reading.live.task.choices(kept)
    sure = decisions.masked.gather(1, chosen[:, None])[:, 0]
    (slope,) = torch.autograd.grad(sure.clamp(min=torch.finfo(sure.dtype).tiny).log().sum(), moved)
    embedded = reading.table(reading.batch["input_ids"]).detach().float()

    offsets = counts_to_offsets([len(item.spots) for item in items])
    spot = reading.batch["spot"]
    first = offsets[:-1].repeat_interleave(reading.pieces.diff()).to(spot.device)
    own = spot > 0
    place = (first[:, None] + spot - 1)[own]
    slopes = slope.new_zeros(int(offsets[-1]), slope.shape[2])
    vectors = slopes.clone().index_copy_(0, place, embedded[own])
    return offsets, (slopes.index_add_(0, place, slope[own]) * vectors).abs().sum(1).double().cpu()


def _by_word(item: Item, values: Sequence[float]) -> Salient:
    """Words that say nothing at all are left out."""
    total: dict[str, float] = {}
    tokens = sorted(zip(item.spots, values, strict=True), key=lambda pair: pair[0][:3])
    for _, run in groupby(tokens, key=lambda pair: pair[0][:2]):
        own = list(run)
        word = "".join(written for (*_, written), _ in own).strip()
        total[word] = total.get(word, 0.0) + sum(value for _, value in own)
    return {word: total[word] for word in sorted(total, key=lambda word: -total[word]) if total[word] > 0}
