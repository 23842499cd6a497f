"""A harness for query strategies: the ones here pass it, and so should anybody's own.

from nlp_al.testing import check_strategy
check_strategy(MyStrategy)
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from nlp_al import selection
from nlp_al.decisions import Decisions, owners
from nlp_al.selection.shards import Peers
from nlp_al.signals import (
    INSTEAD,
    OPTIONAL,
    PER_DECISION,
    SCORES,
    SURPRISALS,
    Gradients,
    SignalError,
    Signals,
    residual,
)
from nlp_al.signals.collector import SCORED
from nlp_al.signals.first_stage import MARGIN
from nlp_al.signals.sampled import Sampled, statistics
from nlp_al.signals.shards import own_rows
from nlp_al.strategies import Selection, Strategy, make_strategy
from nlp_al.strategies.base import SHAPES
from nlp_al.testing_device import emulated_device
from nlp_al.testing_peers import with_peers

_WIDTH = 6
_POOL = 24
_LABELLED = 6
_UNDECIDED = 3
_MEMBERS = 5
_ANNOTATORS = 3
_TAGGING = torch.zeros(5, 4)  # outside, beginning and inside of one kind, beginning of another
_TAGGING[[0, 3, 4], 2] = -torch.inf  # inside follows on its own kind alone


def check_strategy(strategy: str | type[Strategy] | Strategy, shapes: tuple[str, ...] = (), seed: int = 0) -> None:
    """Checks what every strategy promises, on small random signals of each task shape.

    strategy: a name, a class that needs no parameters, or an instance. shapes: some of `single`, `multi`, `sequence`
    and `ranking`; all that the strategy serves unless given. It sees only the fields that it declares.

    I1: as many distinct positions as asked for, all there are where that is fewer; examples with nothing to decide
    last; with `nested`, a smaller choice is the head of a larger one; with a cost, no more than the budget, and
    nothing past the first example that overflows it. What `filters` may give fewer, and nothing without a decision.
    I2: no position outside the pool, and the pool's labels are never read; of the labelled set behind it, where it
    `relabels`, what is `askable` alone.
    I3: the same for the same seed, whatever the block size and the global generators; the signals stay as they were.
    I4: a shuffled pool gives the same examples (group `deterministic`). I5: ties go to the lowest position (likewise).
    I6: a missing field, NaN or infinity is a SignalError that names the field; what stands in columns that are no
    option is not read; facts about the options (`nlp_al.signals.OPTIONAL`) may be missing. I7: duplicates, zeros and
    labelled copies of the pool are no trouble.
    I8: scores, where there are any, rank the choice, higher first, and with `scored` there are some; a certain example
    never outranks an undecided one (family `uncertainty`).
    I9: where `sharded`, processes that each hold some blocks of the pool choose together what one chooses, and all tell
    what is wrong with the rows of any.
    I10: of signals on another device, a GPU that is emulated, it chooses the same, and gives it back on the CPU.

    Raises:
        AssertionError: a promise is broken; one sentence names the strategy, the promise and the shape.
    """
    if isinstance(strategy, str):
        strategy = make_strategy(strategy)
    elif isinstance(strategy, type):
        strategy = strategy()
    for shape in shapes or strategy.shapes:
        _Check(strategy, shape, seed).run()


def synthetic_signals(
    shape: str, n: int = _POOL, seed: int = 0, *, labelled: int = _LABELLED, undecided: int = 0, cost: bool = False
) -> Signals:
    """Random signals of n examples with every field there is, and of `labelled` others in each other role.

    shape: `single` (a decision over 4 options), `multi` (3 decisions yes or no), `sequence` (1 to 6 decisions over 4
    options, of which column 0 is outside and some transitions are forbidden) or `ranking` (a decision over 2 to 5).
    undecided: so many examples, anywhere in the pool, have nothing to decide: no words, a single candidate, or False in
    `askable`. cost: 1 to 9 words each, else absent.

    Raises:
        ValueError: there is no such shape.
    """
    if shape not in SHAPES:
        raise ValueError(f"There is no shape {shape!r}; there are {', '.join(SHAPES)}.")
    generator = torch.Generator().manual_seed(seed)

    def between(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (n,), generator=generator)

    def normal(rows: int, columns: int = _WIDTH) -> Tensor:
        return torch.randn(rows, columns, generator=generator)

    decided = torch.ones(n, dtype=torch.bool)
    decided[torch.randperm(n, generator=generator)[:undecided]] = False
    lengths = torch.full((n,), 3 if shape == "multi" else 1)
    if shape == "sequence":
        lengths = between(1, 6) * decided
    offsets = _offsets(lengths)
    options = torch.where(decided, between(2, 5), 1) if shape == "ranking" else None
    columns = {"multi": 2, "ranking": 5}.get(shape, 4)
    logits = normal(int(offsets[-1]), columns)
    probs = logits.softmax(1)
    embeddings = normal(n)
    if options is not None:
        valid = torch.arange(columns) < options[:, None]
        probs = logits.masked_fill(~valid, -torch.inf).softmax(1)
        gradients = Gradients(residual(probs)[valid][:, None], normal(int(options.sum())), _offsets(options))
        probs = torch.where(valid, probs, logits)  # what is no option holds rubbish, as padding does
    elif shape == "sequence":
        share = lengths[owners(offsets)][:, None]
        gradients = Gradients(residual(probs) / share, normal(len(probs)), offsets)
    elif shape == "multi":
        yes = probs[:, 0].reshape(n, 3)
        gradients = Gradients(yes - (yes > 0.5).float(), embeddings, torch.arange(n + 1))
    else:
        gradients = Gradients(residual(probs), embeddings, offsets)
    passes = _members_of(probs, options, torch.Generator().manual_seed(seed + 2))
    drawn = torch.randn(n, _WIDTH, generator=torch.Generator().manual_seed(seed + 3)).relu()
    surprisals: dict[str, Any] = {name: drawn + at * drawn.sign() for at, name in enumerate(SURPRISALS)}
    sampled = statistics(Decisions(member, offsets, options) for member in passes)
    most = torch.full((len(probs),), columns) if options is None else options
    targets = (torch.rand(len(probs), generator=torch.Generator().manual_seed(seed + 4)) * most).long()
    votes = _votes(targets, most, torch.Generator().manual_seed(seed + 6))
    out_of_fold = _members_of(probs, options, torch.Generator().manual_seed(seed + 7))[0]
    if options is not None:
        passes, out_of_fold = torch.where(valid, passes, logits), torch.where(valid, out_of_fold, logits)
        # Votes are counted of options alone.
        rubbish = {"mean": logits.double(), "squares": logits.double()}
        sampled = sampled.each(lambda name, held: torch.where(valid, held, rubbish[name]) if name in rubbish else held)
    return Signals(
        probs=probs,
        offsets=offsets,
        options=options,
        sampled=sampled,
        passes=passes,
        targets=targets,
        votes=votes,
        out_of_fold=out_of_fold,
        embeddings=embeddings,
        pretrained=normal(n),
        **surprisals,
        scores=_scores([*SCORED, MARGIN], n, seed),
        gradients=gradients,
        cost=between(1, 9) if cost else None,
        askable=decided,
        asked=torch.arange(n) // 3,
        transitions=_TAGGING if shape == "sequence" else None,
        outside=0 if shape == "sequence" else None,
        labelled=synthetic_signals(shape, labelled, seed + 1, labelled=0, cost=cost) if labelled else None,
        validation=synthetic_signals(shape, labelled, seed + 5, labelled=0) if labelled else None,
    )


def _votes(targets: Tensor, most: Tensor, generator: torch.Generator) -> Tensor:
    """int64[M, J]: the first annotator gives the targets, the others anything, or nothing, which is −1."""
    drawn = torch.rand(len(targets), _ANNOTATORS - 1, generator=generator)
    others = (drawn * (most[:, None] + 1)).long() - 1
    return torch.cat([targets[:, None], others], dim=1)


def _members_of(probs: Tensor, options: Tensor | None, generator: torch.Generator) -> Tensor:
    """float[T, M, O]: distributions around the given ones."""
    if options is not None:
        probs = probs.masked_fill(torch.arange(probs.shape[1]) >= options[:, None], 0.0)
    noise = torch.randn(_MEMBERS, *probs.shape, generator=generator)
    return (probs.log() + noise).softmax(2)


@contextmanager
def blocks_of(rows: int) -> Iterator[None]:
    """Makes pool arithmetic run on blocks of so many rows, to see that results do not depend on it."""
    usual = selection.BLOCK
    selection.BLOCK = rows
    try:
        yield
    finally:
        selection.BLOCK = usual


class _LabelsReadError(Exception):
    pass


class _Pool(Signals):
    """Signals whose labels nobody may look at, whether or not there is such a field."""

    def __getattribute__(self, name: str) -> Any:
        if name == "labels":
            raise _LabelsReadError
        return super().__getattribute__(name)


class _Check:
    """The promises of one strategy on one shape; a method each."""

    def __init__(self, strategy: Strategy, shape: str, seed: int) -> None:
        self.strategy, self.shape, self.seed = strategy, shape, seed

    def run(self) -> None:
        self.counts()
        self.prefixes()
        self.budgets()
        self.repeats()
        if self.strategy.group == "deterministic":
            self.shuffled()
            self.ties()
        self.unfit_fields()
        self.padding()
        self.duplicates()
        self.scores()
        if self.strategy.sharded:
            self.shards()
        self.elsewhere()

    def fail(self, promise: str, sentence: str, cause: Exception | None = None) -> NoReturn:
        name = type(self.strategy).__name__
        raise AssertionError(f"{name} breaks {promise} on {self.shape} signals: {sentence}") from cause

    def pool(
        self, n: int = _POOL, labelled: int = _LABELLED, undecided: int = _UNDECIDED, cost: bool = False
    ) -> Signals:
        """Synthetic signals, of which the fields that the strategy did not declare are taken out."""
        made = synthetic_signals(self.shape, n, self.seed, labelled=labelled, undecided=undecided, cost=cost)
        with_parameters = [need.removeprefix(SCORES) for need in self.strategy.needs if need.startswith(SCORES)]
        made = replace(made, scores={**(made.scores or {}), **_scores(with_parameters, n, self.seed)})
        known = made.labelled and self.known(made.labelled)
        unseen = made.validation and _only(made.validation, self.strategy.needs_validation, {"count"})
        mine = _only(made, self.strategy.needs, {"count", "askable", "cost"})
        return replace(mine, labelled=known, validation=unseen)

    def known(self, labelled: Signals) -> Signals:
        """The labelled set as the strategy gets it; of what may be asked again a third waits for an answer."""
        if not self.strategy.relabels:
            return _only(labelled, self.strategy.needs_labelled, {"count"})
        labelled = replace(labelled, askable=torch.arange(len(labelled)) % 3 < 2)
        return _only(labelled, self.strategy.needs_labelled, {"count", "askable", "cost"})

    def again(self, signals: Signals) -> Tensor:
        """bool[l]: which labelled examples it may ask about again; none where it never does."""
        if not self.strategy.relabels or signals.labelled is None:
            return torch.zeros(0, dtype=torch.bool)
        return signals.labelled.can_ask()

    def pick(self, promise: str, signals: Signals, size: float) -> Selection:
        """What the strategy selects, once it is known to be distinct positions in the pool."""
        guarded = _Pool(**{f.name: getattr(signals, f.name) for f in fields(signals)})
        try:
            chosen = self.strategy.select(guarded, size, torch.Generator().manual_seed(self.seed))
        except _LabelsReadError as error:
            self.fail("I2", "it read the labels of the pool.", error)
        except Exception as error:
            self.fail(
                promise, f"asked for {size:g} of {len(signals)}, it raised {type(error).__name__}: {error}", error
            )
        found = chosen.indices
        if away := [
            given.device for given in (found, chosen.scores) if given is not None and given.device.type != "cpu"
        ]:
            self.fail("I10", f"what it chose is on {away[0]}, not on the CPU.")
        if found.dtype != torch.int64 or found.dim() != 1:
            self.fail("I1", f"indices is a {found.dim()}-dimensional tensor of {found.dtype}, not a list of int64.")
        again = self.again(signals)
        if bool(((found < 0) | (found >= len(signals) + len(again))).any()):
            self.fail("I2", f"{found.tolist()} holds positions outside a pool of {len(signals)}.")
        if not bool(again[found[found >= len(signals)] - len(signals)].all()):
            self.fail("I2", f"{found.tolist()} holds labelled examples that are not to be asked about again.")
        if chosen.relabel != self.strategy.relabels:
            self.fail("I2", "its selection does not say whether it chose among the labelled examples.")
        if len(found.unique()) < len(found):
            self.fail("I1", f"{found.tolist()} holds a position twice.")
        return chosen

    def picked(self, promise: str, signals: Signals, size: int) -> list[int]:
        """The positions selected, once they are known to be as many as they should be."""
        found: list[int] = self.pick(promise, signals, size).indices.tolist()
        wanted = min(size, len(signals) + int(self.again(signals).sum()))
        if len(found) > wanted or (len(found) < wanted and not self.strategy.filters):
            self.fail(promise, f"asked for {size} of {len(signals)}, it gave {len(found)}.")
        return found

    def counts(self) -> None:
        if "targets" in self.strategy.needs:
            self.fail("I2", "it needs the labels of the pool.")
        for n, labelled, undecided in (
            (_POOL, _LABELLED, 0),
            (_POOL, _LABELLED, _UNDECIDED),
            (_POOL, 0, _UNDECIDED),
            (2, _LABELLED, 2),
            (1, _LABELLED, 0),
            (1, 0, 0),
            (0, _LABELLED, 0),
            (0, 0, 0),
        ):
            signals = self.pool(n, labelled, undecided)
            askable = torch.cat([signals.can_ask(), self.again(signals)])
            for size in sorted({0, 1, n // 3, n, n + 3, n + _LABELLED}):
                found = self.picked("I1", signals, size)
                behind = [not askable[at] for at in found]
                if any(behind) and self.strategy.filters:
                    self.fail("I1", f"it filters, but an example with nothing to decide is among {found}.")
                if behind != sorted(behind):
                    self.fail("I1", f"an example with nothing to decide comes before others in {found}.")

    def prefixes(self) -> None:
        if not self.strategy.nested:
            return
        for labelled in (0, _LABELLED):
            signals = self.pool(labelled=labelled)
            ranking = self.picked("I1", signals, _POOL)
            for size in (1, 2, 7):
                if (found := self.picked("I1", signals, size)) != ranking[:size]:
                    self.fail("I1", f"it is nested, but {found} is not the head of {ranking[: size + 1]}...")

    def budgets(self) -> None:
        signals = self.pool(cost=True)
        cost = signals.cost
        assert cost is not None
        if (again := self.again(signals)).numel() and signals.labelled is not None:
            assert signals.labelled.cost is not None
            cost = torch.cat([cost, signals.labelled.cost])
        free = self.pick("I1", replace(signals, cost=None), _POOL + len(again)).indices
        total, dearest = float(cost.sum()), float(cost.max())
        for size in (0.0, 0.5, 1.0, 4.0, dearest, total / 3, total - 0.5, total, total + 1):
            found = self.pick("I1", signals, size).indices
            spent = float(cost[found].sum())
            if spent > size:
                self.fail("I1", f"its choice costs {spent:g} words, with a budget of {size:g}.")
            if size >= total and len(found) < len(free):
                self.fail("I1", f"a budget of {size:g} words pays for the whole pool ({total:g}), it left some out.")
            if size >= dearest and len(found) == 0 < len(free):
                self.fail("I1", f"a budget of {size:g} words pays for any example, it took none.")
            if self.strategy.nested:
                fitting = int((cost[free].cumsum(0) <= size).sum())
                if found.tolist() != free[:fitting].tolist():
                    self.fail(
                        "I1",
                        f"a budget of {size:g} words gave {found.tolist()}, not {free[:fitting].tolist()}, "
                        "the ranking up to the first example that overflows it.",
                    )

    def repeats(self) -> None:
        for labelled, undecided in ((0, 0), (_LABELLED, _UNDECIDED)):
            signals = self.pool(labelled=labelled, undecided=undecided)
            before = _global_states()
            first = self.picked("I3", signals, 7)
            if _global_states(drawn=False) != before:
                self.fail("I3", "it touched a global generator; it has one of its own.")
            if not _same(signals, self.pool(labelled=labelled, undecided=undecided)):
                self.fail("I3", "it wrote into the signals it was given.")
            if (again := self.picked("I3", signals, 7)) != first:
                self.fail("I3", f"the same seed gave {first}, then {again}.")
            for rows in (1, 7, _POOL):
                with blocks_of(rows):
                    if (found := self.picked("I3", signals, 7)) != first:
                        self.fail("I3", f"blocks of {rows} rows gave {found}, one block {first}.")

    def shuffled(self) -> None:
        for labelled in (0, _LABELLED):
            signals = self.pool(labelled=labelled)
            order = torch.randperm(_POOL, generator=torch.Generator().manual_seed(self.seed))
            # Examples with nothing to decide tie, so their order is that of the pool.
            first = self.pick("I4", signals, _POOL - _UNDECIDED)
            other = self.pick("I4", signals.take(order), _POOL - _UNDECIDED)
            order = torch.cat([order, _POOL + torch.arange(len(self.again(signals)))])
            found, before = order[other.indices].tolist(), first.indices.tolist()
            if found != before and not _tied(first.scores, other.scores, order):
                self.fail("I4", f"it chose {before}, and of the same pool in another order {found}.")

    def ties(self) -> None:
        for labelled in (0, _LABELLED):
            equal = self.pool(labelled=labelled, undecided=0).take(torch.zeros(_POOL, dtype=torch.int64))
            found = [at for at in self.picked("I5", equal, 7) if at < _POOL]
            if found != list(range(len(found))):
                self.fail("I5", f"of equal examples it chose {found}, not the lowest positions.")

    def unfit_fields(self) -> None:
        signals = self.pool(cost=True)
        for need in sorted(self.strategy.needs - OPTIONAL):
            if not self.strategy.needs.issuperset(INSTEAD.get(need, (None,))):
                self.refused(need, "missing", _without(signals, need))
        for need in self.strategy.needs & OPTIONAL:
            self.picked("I6", replace(_without(signals, need), cost=None), 5)
        for name, unfit in _spoilt(signals, self.strategy.needs | {"cost"}):
            self.refused(name, "NaN or infinite", unfit)
        for role, needs in (
            ("labelled", self.strategy.needs_labelled),
            ("validation", self.strategy.needs_validation),
        ):
            others: Any = getattr(signals, role)
            for need in sorted(needs):
                lacking: dict[str, Any] = {role: _without(others, need)}
                self.refused(need, f"missing from {role}", replace(signals, **lacking))
            for name, unfit in _spoilt(others, needs):
                spoilt: dict[str, Any] = {role: unfit}
                self.refused(name, f"NaN or infinite in {role}", replace(signals, **spoilt))

    def refused(self, name: str, what: str, signals: Signals) -> None:
        try:
            self.strategy.select(signals, 5, torch.Generator().manual_seed(self.seed))
        except SignalError as error:
            if name not in str(error):
                self.fail("I6", f"{name} is {what}, but the SignalError does not name it: {error}", error)
        except Exception as error:
            self.fail("I6", f"{name} is {what}; it raised {type(error).__name__}, not a SignalError: {error}", error)
        else:
            self.fail("I6", f"{name} is {what}; it raised no SignalError.")

    def padding(self) -> None:
        signals = self.pool()
        decided = signals.of_decisions()
        if not decided or signals.options is None:
            return
        invalid = torch.arange(next(iter(decided.values())).shape[-1]) >= signals.options[:, None]
        first = self.picked("I6", signals, 7)
        for rubbish in (0.0, 1.0, torch.nan):
            other = _padded(signals, invalid, rubbish)
            if (found := self.picked("I6", other, 7)) != first:
                self.fail("I6", f"{rubbish} in columns that are no option changed the choice: {first}, then {found}.")

    def duplicates(self) -> None:
        signals = self.pool()
        twice = signals.take(torch.arange(_POOL).repeat(2))
        copies = synthetic_signals(self.shape, _POOL, self.seed)
        known = replace(
            signals,
            labelled=self.known(copies),
            validation=_only(copies, self.strategy.needs_validation, {"count"}),
        )
        zeros: dict[str, Any] = {
            name: torch.zeros_like(value)
            for name in ("embeddings", "pretrained", *SURPRISALS)
            if (value := getattr(signals, name)) is not None
        }
        if signals.gradients is not None:
            r, h, offsets = signals.gradients
            zeros["gradients"] = Gradients(torch.zeros_like(r), h, offsets)
        for case in (twice, known, replace(signals, **zeros)):
            for size in (7, len(case)):
                self.picked("I7", case, size)

    def scores(self) -> None:
        for undecided in (0, _UNDECIDED):
            signals = self.pool(undecided=undecided)
            chosen = self.pick("I8", signals, 7)
            if chosen.scores is None:
                if self.strategy.scored:
                    self.fail("I8", "it is scored, but gives no scores.")
                continue
            if chosen.scores.shape != (_POOL + len(self.again(signals)),) or not chosen.scores.is_floating_point():
                self.fail("I8", f"scores is {chosen.scores.dtype}{list(chosen.scores.shape)}, not a float an example.")
            if bool(chosen.scores.isnan().any()):
                self.fail("I8", "some scores are NaN.")
            found = chosen.indices.tolist()
            best = torch.argsort(chosen.scores, descending=True, stable=True)[: len(found)].tolist()
            if found != best:
                self.fail("I8", f"it chose {found}, but the highest scores are those of {best}.")
        if self.strategy.family == "uncertainty" and self.strategy.needs & PER_DECISION:
            self.direction()

    def shards(self) -> None:
        twice = self.pool(undecided=0).take(torch.arange(_POOL).repeat(2))
        for signals in (self.pool(labelled=0, cost=True), twice, self.pool(2)):
            for size in (2, 4):
                with blocks_of(5):
                    alone = self.pick("I9", signals, 7)
                    for chosen in with_peers(size, partial(self.of_shard, signals)):
                        if chosen.indices.tolist() != alone.indices.tolist():
                            told = f"{alone.indices.tolist()}, and in {size} shards {chosen.indices.tolist()}"
                            self.fail("I9", f"alone it chose {told}.")
                        scores = chosen.scores
                        if alone.scores is not None and (scores is None or not torch.allclose(alone.scores, scores)):
                            self.fail("I9", f"in {size} shards its scores were others.")
        for name, unfit in dict(_spoilt(self.pool(undecided=0), self.strategy.needs)).items():
            with blocks_of(5):
                for said in with_peers(2, partial(self.refusal, unfit)):
                    if name not in said:
                        self.fail("I9", f"{name} is NaN or infinite in one shard; one process said {said!r}.")

    def of_shard(self, signals: Signals, peers: Peers) -> Selection:
        generator = torch.Generator().manual_seed(self.seed)
        return self.strategy.select(own_rows(signals, peers), 7, generator)

    def refusal(self, signals: Signals, peers: Peers) -> str:
        try:
            self.of_shard(signals, peers)
        except SignalError as error:
            return str(error)
        return ""

    def elsewhere(self) -> None:
        for signals in (self.pool(), self.pool(labelled=0, undecided=0, cost=True), self.pool(1), self.pool(0)):
            here = self.pick("I10", signals, 7)
            with emulated_device() as device:
                there = self.pick("I10", signals.to(device), 7)
            if here.indices.tolist() != there.indices.tolist():
                told = f"{here.indices.tolist()} on the CPU, and {there.indices.tolist()} on {device}"
                self.fail("I10", f"it chose {told}.")
            if here.scores is not None and (there.scores is None or not torch.equal(here.scores, there.scores)):
                self.fail("I10", f"on {device} its scores were others than on the CPU.")

    def direction(self) -> None:
        # All but what is decided is the same; where that counts as well, equal scores are no fault.
        first = self.pool(1, undecided=0)
        pair = first.take(torch.zeros(2, dtype=torch.int64))
        certain = [1] if "gradients" in self.strategy.needs else [0]
        sure = (owners(pair.offsets) == certain[0]) if pair.offsets is not None else torch.zeros(0, dtype=torch.bool)
        if self.picked("I8", _decided(pair, sure), 1) == certain:
            self.fail("I8", "it asked for an example that the model is certain of before one that it knows nothing of.")


def _decided(signals: Signals, sure: Tensor) -> Signals:
    """With decisions that are certain where bool[M] `sure` holds, and else open, each member for another option."""
    shape = next(iter(signals.of_decisions().values())).shape[-2:]
    assert signals.offsets is not None
    options = signals.options if signals.options is not None else torch.full(shape[:1], shape[1])
    flat = (torch.arange(shape[1]) < options[:, None]) / options[:, None]
    certain = torch.zeros(shape)
    certain[:, 0] = 1.0
    members = []
    for at in range(_MEMBERS):
        own = (flat + torch.zeros(shape).scatter_(1, (at % options)[:, None], 1.0)) / 2
        members.append(torch.where(sure[:, None], certain, own))
    made: dict[str, Any] = {
        "probs": torch.where(sure[:, None], certain, flat),
        "passes": torch.stack(members),
        "sampled": statistics(Decisions(member, signals.offsets, signals.options) for member in members),
    }
    return replace(signals, **{name: value for name, value in made.items() if getattr(signals, name) is not None})


def _padded(signals: Signals, invalid: Tensor, rubbish: float) -> Signals:
    """With something else in the columns that are no option, true in bool[M, O] `invalid`."""
    made: dict[str, Any] = {
        name: value.masked_fill(invalid, rubbish)
        for name in ("probs", "passes")
        if (value := getattr(signals, name)) is not None
    }
    if signals.sampled is not None:
        numbers = {"mean", "squares"}
        made["sampled"] = Sampled(*signals.sampled).each(
            lambda name, held: held.masked_fill(invalid, rubbish) if name in numbers else held
        )
    return replace(signals, **made)


def _scores(names: Iterable[str], n: int, seed: int) -> dict[str, Tensor]:
    """Random ones by name, of which the last is minus infinity."""
    made = {}
    for name in names:
        made[name] = torch.randn(n, generator=torch.Generator().manual_seed(seed + sum(name.encode())))
        made[name][-1:] = -torch.inf
    return made


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def _only(signals: Signals, names: frozenset[str], always: set[str]) -> Signals:
    kept = names | always | ({"scores"} if any(name.startswith(SCORES) for name in names) else set())
    kept = kept | ({"offsets", "options"} if names & PER_DECISION else set())
    return Signals(**{f.name: getattr(signals, f.name) for f in fields(signals) if f.name in kept})


def _without(signals: Signals, name: str) -> Signals:
    gone: dict[str, Any] = {"scores" if name.startswith(SCORES) else name: None}
    if name in PER_DECISION and not any(getattr(signals, other) is not None for other in PER_DECISION - {name}):
        gone |= dict.fromkeys(("offsets", "options"))
    return replace(signals, **gone)


def _spoilt(signals: Signals, names: frozenset[str]) -> Iterator[tuple[str, Signals]]:
    """The signals with one number of a field made NaN or infinite, and the field's name."""
    for name in sorted(names):
        key = name.removeprefix(SCORES)
        value = getattr(signals, name) if key == name else (signals.scores or {})[key]
        may_be_infinite = key != name or name == "transitions"
        for bad in (torch.nan, torch.inf, *([] if may_be_infinite else [-torch.inf])):
            real = isinstance(value, Tensor) and value.is_floating_point()
            parts: list[dict[str, Any]] = [{name: _with_first(value, bad)}] if real else []
            if key != name:
                parts = [{"scores": {**(signals.scores or {}), key: _with_first(value, bad)}}]
            if isinstance(value, Gradients):
                parts = [{name: value._replace(r=_with_first(value.r, bad))}]
                parts += [{name: value._replace(h=_with_first(value.h, bad))}]
            if isinstance(value, Sampled):
                numbers = ("mean", "entropy", "squares")
                parts = [{name: value.each(partial(_with_first_of, wanted, bad))} for wanted in numbers]
            for part in parts:
                yield name, replace(signals, **part)


def _tied(scores: Tensor | None, other: Tensor | None, order: Tensor) -> bool:
    """Whether some scores are equal, as votes are, so that their order is that of the pool; and else the same."""
    if scores is None or other is None or not scores.shape == other.shape == order.shape:
        return False
    asked = scores[scores > -torch.inf]
    return len(asked.unique()) < len(asked) and torch.allclose(scores[order], other)


def _with_first_of(wanted: str, bad: float, name: str, values: Tensor) -> Tensor:
    return _with_first(values, bad) if name == wanted else values


def _with_first(values: Tensor, bad: float) -> Tensor:
    values = values.clone()
    values.view(-1)[0] = bad
    return values


def _global_states(drawn: bool = True) -> tuple[object, ...]:
    """The states of the global generators; a draw from each first, so that a strategy that seeds them can be told."""
    if drawn:
        torch.rand(()), np.random.random(), random.random()
    numpy: Any = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), numpy[1].tobytes(), numpy[2:], random.getstate()


def _same(one: Signals, other: Signals) -> bool:
    return all(map(torch.equal, _tensors(one), _tensors(other)))


def _tensors(signals: Signals) -> list[Tensor]:
    values = [getattr(signals, f.name) for f in fields(signals)]
    roles = [role for role in (signals.labelled, signals.validation) if role is not None]
    inside = [tensor for role in roles for tensor in _tensors(role)]
    sampled = [*(signals.sampled or ())[:4], *(signals.scores or {}).values()]
    return [v for v in values if isinstance(v, Tensor)] + list(signals.gradients or ()) + sampled + inside
