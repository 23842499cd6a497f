"""Whether to ask about an example again or about a new one."""

import numpy as np
import pytest
import torch

from nlp_al.activelab import activelab, certainty, crowdlab, temperature

COUNT, PEOPLE, OPTIONS = 300, 4, 3


def certain(quality: float, weight: float, mean: float) -> float:
    return float(certainty(torch.tensor([quality]), torch.tensor([weight]), mean, torch.tensor([3.0])))


def test_hand_computed_numbers():
    assert certain(0.7, 1.2 + 0.8 + 0.5, 0.65) == pytest.approx(0.624339, abs=1e-6)
    assert certain(0.7, 1.2 + 0.8, 0.65) == pytest.approx(0.610063, abs=1e-6)
    assert certain(0.7, 1.2, 0.65) == pytest.approx(0.571171, abs=1e-6)


def test_a_doubtful_label_is_asked_about_before_a_new_example():
    votes = torch.tensor([[0], [1]])
    known, new = activelab(torch.tensor([[0.6, 0.2, 0.2], [0.1, 0.8, 0.1]]), votes, torch.tensor([[0.7, 0.2, 0.1]]))
    assert known[0] == pytest.approx(-0.511111, abs=1e-6)
    assert new.tolist() == pytest.approx([-0.516667], abs=1e-6)
    assert known[0] > new[0] > known[1]


def crowd(seed: int = 0, several: float = 0.5, right: float = 0.8):
    """A model and four people of whom one or more answered each example; one of them guesses."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(OPTIONS, size=COUNT)
    logits = draw.normal(size=(COUNT, OPTIONS))
    logits[np.arange(COUNT), truth] += 2
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    said = np.where(draw.random((COUNT, PEOPLE)) < right, truth[:, None], draw.integers(OPTIONS, size=(COUNT, PEOPLE)))
    said[:, 0] = draw.integers(OPTIONS, size=COUNT)
    asked = draw.random((COUNT, PEOPLE)) < several
    asked[np.arange(COUNT), draw.integers(PEOPLE, size=COUNT)] = True
    new = draw.dirichlet(np.ones(OPTIONS), size=50)
    return torch.from_numpy(probs), torch.from_numpy(np.where(asked, said, -1)), torch.from_numpy(new), truth


def test_who_guesses_is_trusted_least_and_the_consensus_beats_the_majority():
    probs, votes, _, truth = crowd()
    found = crowdlab(probs, votes)
    assert int(found.weights.argmin()) == 0
    assert float(found.weights[0]) < 0.2 < float(found.weights[1:].min())
    one = np.array([next(vote for vote in row if vote >= 0) for row in votes.tolist()])
    assert (found.labels.numpy() == truth).mean() > (one == truth).mean() + 0.1
    assert float(found.quality.min()) > 0
    assert float(found.quality.max()) <= 1


def test_brute_force():
    probs, votes, new, _ = crowd(several=0.4, right=0.5)
    degree = temperature(probs, votes)
    own, others = ((p ** (1 / degree)) / (p ** (1 / degree)).sum(1, keepdim=True) for p in (probs, new))
    rows = [[(j, v) for j, v in enumerate(row) if v >= 0] for row in votes.tolist()]
    many = [i for i in range(COUNT) if len(rows[i]) > 1]

    def trusted(labels: list[int]):
        agree = np.mean([np.mean([v == labels[i] for _, v in rows[i]]) for i in many])
        common = max(range(OPTIONS), key=[labels[i] for i in many].count)
        chance = np.mean([labels[i] != common for i in many])
        weights = []
        for person in range(PEOPLE):
            pairs = [v == w for row in rows for j, v in row if j == person for k, w in row if k != person]
            weights.append(max(1 - (1 - np.mean(pairs)) / chance, 1e-6))
        wrong = np.mean([int(own[i].argmax()) != labels[i] for i in many])
        model = max(1 - wrong / chance, 1e-6) * np.mean([len(row) for row in rows]) ** 0.5
        found = []
        for i in range(COUNT):
            total = [model * float(own[i, c]) for c in range(OPTIONS)]
            for j, v in rows[i]:
                total = [t + weights[j] * (agree if v == c else (1 - agree) / 2) for c, t in enumerate(total)]
            found.append([t / (model + sum(weights[j] for j, _ in rows[i])) for t in total])
        return weights, model, found

    said = [[v for _, v in row] for row in rows]
    labels = [max(range(OPTIONS), key=lambda c, i=i: (said[i].count(c), float(own[i, c]))) for i in range(COUNT)]
    first = labels
    labels = [max(range(OPTIONS), key=row.__getitem__) for row in trusted(labels)[2]]
    assert first != labels
    weights, model, posterior = trusted(labels)
    found = crowdlab(own, votes)
    assert found.labels.tolist() == labels
    assert found.weights.tolist() == pytest.approx(weights)
    assert found.model == pytest.approx(model)
    known, fresh = activelab(probs, votes, new)
    mean = np.mean(weights)
    for i in range(COUNT):
        weight = model + sum(weights[j] for j, _ in rows[i])
        assert float(found.quality[i]) == pytest.approx(posterior[i][labels[i]])
        assert -float(known[i]) == pytest.approx((posterior[i][labels[i]] * weight + mean / 3) / (weight + mean))
    for i in range(50):
        assert -float(fresh[i]) == pytest.approx((model * float(others[i].max()) + mean / 3) / (model + mean))


def test_each_person_who_agrees_makes_another_label_worth_less():
    probs, votes, new, _ = crowd()
    before, _ = activelab(probs, votes, new)
    alone = ((votes >= 0).sum(1) == 1) & (votes[:, 1] == probs.argmax(1))
    at = int(alone.nonzero()[0])
    more = votes.clone()
    more[at, 2] = votes[at, 1]
    assert float(activelab(probs, more, new)[0][at]) < float(before[at])


def test_the_order_of_examples_people_and_labels_makes_no_difference():
    probs, votes, new, _ = crowd()
    rows, people, options = torch.randperm(COUNT), torch.randperm(PEOPLE), torch.tensor([2, 0, 1])
    known, fresh = activelab(probs, votes, new)
    moved, others = activelab(probs[rows], votes[rows][:, people], new)
    assert moved.allclose(known[rows])
    assert others.allclose(fresh)
    swapped = torch.where(votes >= 0, options.argsort()[votes], -1)
    assert activelab(probs[:, options], swapped, new[:, options])[0].allclose(known)


def test_a_person_without_an_answer_in_common_is_trusted_as_the_others_are():
    probs, votes, _, _ = crowd()
    alone = torch.full((COUNT, 1), -1)
    apart = torch.cat([votes, alone], dim=1)
    apart[0] = torch.tensor([-1, -1, -1, -1, 1])
    found = crowdlab(probs, apart).weights
    assert found[:4].min() < found[4] < found[:4].max()


@pytest.mark.parametrize("several", [0.0, 0.3, 0.7])
def test_cleanlab_finds_the_same(several, monkeypatch):
    cleanlab = pytest.importorskip("cleanlab.multiannotator")
    # Version 2.9 counts labels that are no integers under the first classes, and so fits another temperature.
    monkeypatch.setattr(
        "cleanlab.internal.multiannotator_utils.value_counts",
        lambda labels, num_classes: np.bincount(labels.astype(int), minlength=num_classes),
    )
    probs, votes, new, _ = crowd(several=several)
    votes = votes[:, 1:]
    probs, votes = probs[(votes >= 0).any(1)], votes[(votes >= 0).any(1)]
    table = np.where(votes.numpy() >= 0, votes.numpy(), np.nan).astype(float)
    known, fresh = cleanlab.get_active_learning_scores(table, probs.numpy(), new.numpy())
    mine, others = activelab(probs, votes, new)
    assert (-mine).tolist() == pytest.approx(known.tolist(), abs=1e-6)
    assert (-others).tolist() == pytest.approx(fresh.tolist(), abs=1e-6)


def test_probabilities_that_are_too_sharp_are_softened():
    probs, votes, _, _ = crowd()
    assert temperature((probs**5) / (probs**5).sum(1, keepdim=True), votes) > temperature(probs, votes) >= 0.1
