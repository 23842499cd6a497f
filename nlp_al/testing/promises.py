"""What every strategy promises, and how it is seen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from nlp_al import selection
from nlp_al.decisions import owners
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
)
from nlp_al.signals.shards import own_rows
from nlp_al.strategies import Selection, Strategy, make_strategy
from nlp_al.testing.device import emulated_device
from nlp_al.testing.peers import with_peers
from nlp_al.testing.synthetic import LABELLED, POOL, UNDECIDED, random_scores, synthetic_signals
from nlp_al.testing.variants import decided_where, padded, same, spoilt, with_only, without


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

    def pool(self, n: int = POOL, labelled: int = LABELLED, undecided: int = UNDECIDED, cost: bool = False) -> Signals:
        """Synthetic signals, of which the fields that the strategy did not declare are taken out."""
        made = synthetic_signals(self.shape, n, self.seed, labelled=labelled, undecided=undecided, cost=cost)
        with_parameters = [need.removeprefix(SCORES) for need in self.strategy.needs if need.startswith(SCORES)]
        made = replace(made, scores={**(made.scores or {}), **random_scores(with_parameters, n, self.seed)})
        known = made.labelled and self.known(made.labelled)
        unseen = made.validation and with_only(made.validation, self.strategy.needs_validation, {"count"})
        mine = with_only(made, self.strategy.needs, {"count", "askable", "cost"})
        return replace(mine, labelled=known, validation=unseen)

    def known(self, labelled: Signals) -> Signals:
        """The labelled set as the strategy gets it; of what may be asked again a third waits for an answer."""
        if not self.strategy.relabels:
            return with_only(labelled, self.strategy.needs_labelled, {"count"})
        labelled = replace(labelled, askable=torch.arange(len(labelled)) % 3 < 2)
        return with_only(labelled, self.strategy.needs_labelled, {"count", "askable", "cost"})

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
            (POOL, LABELLED, 0),
            (POOL, LABELLED, UNDECIDED),
            (POOL, 0, UNDECIDED),
            (2, LABELLED, 2),
            (1, LABELLED, 0),
            (1, 0, 0),
            (0, LABELLED, 0),
            (0, 0, 0),
        ):
            signals = self.pool(n, labelled, undecided)
            askable = torch.cat([signals.can_ask(), self.again(signals)])
            for size in sorted({0, 1, n // 3, n, n + 3, n + LABELLED}):
                found = self.picked("I1", signals, size)
                behind = [not askable[at] for at in found]
                if any(behind) and self.strategy.filters:
                    self.fail("I1", f"it filters, but an example with nothing to decide is among {found}.")
                if behind != sorted(behind):
                    self.fail("I1", f"an example with nothing to decide comes before others in {found}.")

    def prefixes(self) -> None:
        if not self.strategy.nested:
            return
        for labelled in (0, LABELLED):
            signals = self.pool(labelled=labelled)
            ranking = self.picked("I1", signals, POOL)
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
        free = self.pick("I1", replace(signals, cost=None), POOL + len(again)).indices
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
        for labelled, undecided in ((0, 0), (LABELLED, UNDECIDED)):
            signals = self.pool(labelled=labelled, undecided=undecided)
            before = _global_states()
            first = self.picked("I3", signals, 7)
            if _global_states(drawn=False) != before:
                self.fail("I3", "it touched a global generator; it has one of its own.")
            if not same(signals, self.pool(labelled=labelled, undecided=undecided)):
                self.fail("I3", "it wrote into the signals it was given.")
            if (again := self.picked("I3", signals, 7)) != first:
                self.fail("I3", f"the same seed gave {first}, then {again}.")
            for rows in (1, 7, POOL):
                with blocks_of(rows):
                    if (found := self.picked("I3", signals, 7)) != first:
                        self.fail("I3", f"blocks of {rows} rows gave {found}, one block {first}.")

    def shuffled(self) -> None:
        for labelled in (0, LABELLED):
            signals = self.pool(labelled=labelled)
            order = torch.randperm(POOL, generator=torch.Generator().manual_seed(self.seed))
            # Examples with nothing to decide tie, so their order is that of the pool.
            first = self.pick("I4", signals, POOL - UNDECIDED)
            other = self.pick("I4", signals.take(order), POOL - UNDECIDED)
            order = torch.cat([order, POOL + torch.arange(len(self.again(signals)))])
            found, before = order[other.indices].tolist(), first.indices.tolist()
            if found != before and not _tied(first.scores, other.scores, order):
                self.fail("I4", f"it chose {before}, and of the same pool in another order {found}.")

    def ties(self) -> None:
        for labelled in (0, LABELLED):
            equal = self.pool(labelled=labelled, undecided=0).take(torch.zeros(POOL, dtype=torch.int64))
            found = [at for at in self.picked("I5", equal, 7) if at < POOL]
            if found != list(range(len(found))):
                self.fail("I5", f"of equal examples it chose {found}, not the lowest positions.")

    def unfit_fields(self) -> None:
        signals = self.pool(cost=True)
        for need in sorted(self.strategy.needs - OPTIONAL):
            if not self.strategy.needs.issuperset(INSTEAD.get(need, (None,))):
                self.refused(need, "missing", without(signals, need))
        for need in self.strategy.needs & OPTIONAL:
            self.picked("I6", replace(without(signals, need), cost=None), 5)
        for name, unfit in spoilt(signals, self.strategy.needs | {"cost"}):
            self.refused(name, "NaN or infinite", unfit)
        for role, needs in (
            ("labelled", self.strategy.needs_labelled),
            ("validation", self.strategy.needs_validation),
        ):
            others: Any = getattr(signals, role)
            for need in sorted(needs):
                lacking: dict[str, Any] = {role: without(others, need)}
                self.refused(need, f"missing from {role}", replace(signals, **lacking))
            for name, unfit in spoilt(others, needs):
                changed: dict[str, Any] = {role: unfit}
                self.refused(name, f"NaN or infinite in {role}", replace(signals, **changed))

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
            other = padded(signals, invalid, rubbish)
            if (found := self.picked("I6", other, 7)) != first:
                self.fail("I6", f"{rubbish} in columns that are no option changed the choice: {first}, then {found}.")

    def duplicates(self) -> None:
        signals = self.pool()
        twice = signals.take(torch.arange(POOL).repeat(2))
        copies = synthetic_signals(self.shape, POOL, self.seed)
        known = replace(
            signals,
            labelled=self.known(copies),
            validation=with_only(copies, self.strategy.needs_validation, {"count"}),
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
        for undecided in (0, UNDECIDED):
            signals = self.pool(undecided=undecided)
            chosen = self.pick("I8", signals, 7)
            if chosen.scores is None:
                if self.strategy.scored:
                    self.fail("I8", "it is scored, but gives no scores.")
                continue
            if chosen.scores.shape != (POOL + len(self.again(signals)),) or not chosen.scores.is_floating_point():
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
        twice = self.pool(undecided=0).take(torch.arange(POOL).repeat(2))
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
        for name, unfit in dict(spoilt(self.pool(undecided=0), self.strategy.needs)).items():
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
        if self.picked("I8", decided_where(pair, sure), 1) == certain:
            self.fail("I8", "it asked for an example that the model is certain of before one that it knows nothing of.")


def _tied(scores: Tensor | None, other: Tensor | None, order: Tensor) -> bool:
    """Whether some scores are equal, as votes are, so that their order is that of the pool; and else the same."""
    if scores is None or other is None or not scores.shape == other.shape == order.shape:
        return False
    asked = scores[scores > -torch.inf]
    return len(asked.unique()) < len(asked) and torch.allclose(scores[order], other)


def _global_states(drawn: bool = True) -> tuple[object, ...]:
    """The states of the global generators; a draw from each first, so that a strategy that seeds them can be told."""
    if drawn:
        torch.rand(()), np.random.random(), random.random()
    numpy: Any = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), numpy[1].tobytes(), numpy[2:], random.getstate()
