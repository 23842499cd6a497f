"""Whose label is worth most next: one that somebody gave already, or one that nobody has. Tensors in, tensors out.

Everywhere `probs` is float[n, O], out-of-fold probabilities of a model, and `votes` is int64[n, J], what each annotator
said of each decision, −1 where nothing. `options` is int64[n], how many of the leading columns are options of a row,
where that varies; then a column is no class, for it means something else in each row. None: all columns, and they are.

Reference: Goh and Mueller, ActiveLab: Active Learning with Re-Labeling by Multiple Annotators (2023), arXiv:2301.11856;
Goh, Tkachenko and Mueller, CROWDLAB (2022), arXiv:2210.06812
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMALL = 1e-6
"""The least weight, and the least error that chance is thought to make."""

TINY = 1e-30
"""The least probability of which a logarithm is taken."""

COARSE = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0, 3.0, 5.0, 8.0)
FINE = 4
"""Temperatures that are tried, and how many more on either side of the best of them."""


@dataclass(frozen=True, eq=False)
class Crowd:
    """What several annotators and a model together hold to be right.

    labels: int64[n], the consensus. quality: float64[n], how likely it is right. weights: float64[J], how far each
    annotator is to be trusted; model: how far the model is.
    """

    labels: Tensor
    quality: Tensor
    weights: Tensor
    model: float


def crowdlab(probs: Tensor, votes: Tensor, options: Tensor | None = None) -> Crowd:
    """The consensus of annotators and model. Where nobody answered what another one did, all are trusted alike."""
    probs, given = probs.double().masked_fill(~_valid(probs, options), 0.0), votes >= 0
    counts = given.sum(1)
    labels = _majority(probs, votes)
    if not bool((counts > 1).any()):
        return Crowd(labels, _of(probs, labels), probs.new_ones(votes.shape[1]), 1.0)
    labels = _posterior(probs, votes, options, *_trust(probs, votes, options, labels)).argmax(1)
    weights, model, agree = _trust(probs, votes, options, labels)
    return Crowd(labels, _of(_posterior(probs, votes, options, weights, model, agree), labels), weights, model)


def _valid(probs: Tensor, options: Tensor | None) -> Tensor:
    """bool[n, O]: which columns are options."""
    if options is None:
        return torch.ones_like(probs, dtype=torch.bool)
    return torch.arange(probs.shape[1], device=probs.device) < options[:, None]


def _number(probs: Tensor, options: Tensor | None) -> Tensor:
    """float64[n]: how many options there are."""
    return probs.new_full((len(probs),), probs.shape[1], dtype=torch.float64) if options is None else options.double()


def _of(probs: Tensor, labels: Tensor) -> Tensor:
    return probs.gather(1, labels[:, None])[:, 0]


def _counts(votes: Tensor, options: int) -> Tensor:
    """float64[n, O]: how many gave each option."""
    shown = torch.nn.functional.one_hot(votes.clamp(min=0), options) * (votes >= 0)[:, :, None]
    return shown.sum(1).double()


def _majority(probs: Tensor, votes: Tensor) -> Tensor:
    """The option with the most votes; on a tie the one that the model finds more probable."""
    counts = _counts(votes, probs.shape[1])
    return torch.where(counts == counts.amax(1, keepdim=True), probs.double(), -1.0).argmax(1)


def _trust(probs: Tensor, votes: Tensor, options: Tensor | None, labels: Tensor) -> tuple[Tensor, float, float]:
    """How far each annotator and the model are to be trusted, and how often an annotator says what the consensus is.

    All of it is estimated where several answered, relative to always saying the most frequent label; where columns are
    no classes, relative to a guess.
    """
    given = votes >= 0
    counts = given.sum(1)
    several = counts > 1
    consensus = labels[several]
    if options is None:
        mistaken = (consensus != consensus.bincount().argmax()).double()
    else:
        mistaken = 1 - 1 / options[several].double()
    chance = max(float(mistaken.mean()), SMALL)
    shared = (_counts(votes, probs.shape[1]).gather(1, votes.clamp(min=0)) - 1) * given
    others = ((counts - 1)[:, None] * given).double()
    alike = shared.sum(0) / others.sum(0)  # a mean over examples, by how many others answered each
    alike = torch.where(others.sum(0) > 0, alike, alike[others.sum(0) > 0].mean())
    weights = (1 - (1 - alike) / chance).clamp(min=SMALL)
    wrong = float((probs[several].argmax(1) != consensus).double().mean())
    model = max(1 - wrong / chance, SMALL) * float(counts.double().mean()) ** 0.5
    agree = ((votes == labels[:, None]) & given).sum(1)[several] / counts[several]
    return weights, model, float(agree.double().mean())


def _posterior(
    probs: Tensor, votes: Tensor, options: Tensor | None, weights: Tensor, model: float, agree: float
) -> Tensor:
    """float64[n, O]: a mean of what the model says and what each annotator does, who is right with chance `agree`."""
    total = model * probs
    said = (votes >= 0).double() * weights
    missed = (1 - agree) / (_number(probs, options) - 1).clamp(min=1)[:, None]
    for option in range(probs.shape[1]):
        chances = torch.where(votes == option, agree, missed)
        total[:, option] += (said * chances).sum(1)
    return total.masked_fill(~_valid(probs, options), 0.0) / (model + said.sum(1, keepdim=True))


def activelab(
    probs: Tensor, votes: Tensor, unlabelled: Tensor, options: Tensor | None = None, others: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """float64[n] and float64[m], higher = ask first: of labelled decisions, and of those that nobody answered.

    unlabelled: float[m, O], the model's probabilities of these; others: int64[m], their options. Where several people
    have answered, the model's are softened or sharpened until they fit the shares of the answers.
    """
    if bool(((votes >= 0).sum(1) > 1).any()):
        degree = temperature(probs, votes, options)
        probs, unlabelled = scaled(probs, degree, options), scaled(unlabelled, degree, others)
    crowd = crowdlab(probs, votes, options)
    mean = float(crowd.weights.mean())
    said = ((votes >= 0).double() * crowd.weights).sum(1)
    known = certainty(crowd.quality, crowd.model + said, mean, _number(probs, options))
    alone = unlabelled.new_full((len(unlabelled),), crowd.model, dtype=torch.float64)
    most = unlabelled.double().masked_fill(~_valid(unlabelled, others), 0.0).amax(1)
    return -known, -certainty(most, alone, mean, _number(unlabelled, others))


def certainty(quality: Tensor, weight: Tensor, mean: float, options: Tensor) -> Tensor:
    """float64[n]: how likely a label is right, drawn towards 1 / options as if one more annotator knew nothing.

    weight: of all who said it, the model included. mean: of an annotator.
    """
    return (quality * weight + mean / options) / (weight + mean)


def temperature(probs: Tensor, votes: Tensor, options: Tensor | None = None) -> float:
    """The temperature at which the cross-entropy with the shares of the answers is least."""
    counts = _counts(votes, probs.shape[1])
    shares = counts / counts.sum(1, keepdim=True)

    def best(degrees: list[float]) -> float:
        fits = (scaled(probs, degree, options).clamp(min=TINY).log() for degree in degrees)
        losses = [float(-(shares * fit).sum(1).mean()) for fit in fits]
        return degrees[losses.index(min(losses))]

    at = COARSE.index(best(list(COARSE)))
    low, here, high = COARSE[max(at - 1, 0)], COARSE[at], COARSE[min(at + 1, len(COARSE) - 1)]
    below = [low + (here - low) * step / FINE for step in range(FINE)] if at else []
    above = [here + (high - here) * step / FINE for step in range(FINE + 1)]
    return best([*below, *above])


def scaled(probs: Tensor, degree: float, options: Tensor | None = None) -> Tensor:
    """Probabilities at another temperature."""
    logits = probs.double().clamp(min=TINY).log() / degree
    return logits.masked_fill(~_valid(probs, options), -torch.inf).softmax(1)
