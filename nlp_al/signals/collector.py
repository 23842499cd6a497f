"""The one collector: every pass over examples goes through here.

A strategy names fields; each field is made by a provider, `(model, batch, generator) → Signals of the batch`. Providers
of one pass share its forward. Batches are composed over all examples first and only then dealt out to the processes, so
the number of processes changes no arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch

from nlp_al import selection
from nlp_al.decisions import Decisions
from nlp_al.pool import Example
from nlp_al.processes import gathered, peers, processes
from nlp_al.signals import OF_MEMBERS, SCORES, Signals
from nlp_al.signals.adversarial import adv_bim, adv_deepfool
from nlp_al.signals.gradient_length import egl, egl_word
from nlp_al.signals.live import Item, Live
from nlp_al.signals.merging import Batches, merge, ordered, together
from nlp_al.signals.sampled import Running
from nlp_al.signals.shards import Share
from nlp_al.strategies.scored import parted
from nlp_al.tasks import Rows, Task


class Scorer(Protocol):
    """A model that can be asked about examples. sharded: whether every process holds it, or the main process alone."""

    task: Task
    sharded: bool

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """What is needed of each example, and the positions of each batch, the same on every process."""

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """One forward over a batch, on the CPU."""

    def live(self) -> Live:
        """The same model, to be asked with gradients. All processes call it together."""

    def rest(self) -> None:
        """Leaves the accelerator; the next pass goes back to it."""


class Committee(Scorer, Protocol):
    """A scorer with several members, which say more than one thing of a batch.

    plain: whether its `rows` are those of the fitted model, so that all fields can come out of one pass.
    """

    plain: bool

    def members(self, prepared: Sequence[Any], rows: Callable[[], Rows]) -> Iterator[Rows]:
        """What each member makes of a batch, one after the other. rows: the scorer's own, computed at most once."""


class Pass:
    """One batch before one model: the forward is computed once, whoever asks."""

    def __init__(self, scorer: Scorer) -> None:
        self.task = scorer.task
        self._scorer = scorer
        self._batch: Any = None
        self._rows: Rows | None = None
        self._decisions: Decisions | None = None

    def rows(self, batch: Sequence[Any]) -> Rows:
        """Hidden states and logits."""
        if self._rows is None or self._batch is not batch:
            self._batch, self._rows, self._decisions = batch, self._scorer.rows(batch), None
        return self._rows

    def decisions(self, batch: Sequence[Any]) -> Decisions:
        """The distributions."""
        rows = self.rows(batch)
        if self._decisions is None:
            self._decisions = self.task.decisions(rows)
        return self._decisions

    def members(self, batch: Sequence[Any]) -> Iterator[Decisions]:
        """The distributions of each member of a committee."""
        committee: Any = self._scorer
        return map(self.task.decisions, committee.members(batch, lambda: self.rows(batch)))


Provider = Callable[[Pass, Sequence[Any], torch.Generator], Signals]


def probs(model: Pass, batch: Sequence[Any], generator: torch.Generator) -> Signals:
    """probs, offsets and options."""
    decisions = model.decisions(batch)
    return Signals(probs=decisions.probs, offsets=decisions.offsets, options=decisions.options)


def sampled(model: Pass, batch: Sequence[Any], generator: torch.Generator) -> Signals:
    """Statistics over the members of a committee; each goes when the next comes."""
    running = Running()
    for decisions in model.members(batch):
        running.add(decisions)
    return Signals(sampled=running.result(), offsets=decisions.offsets, options=decisions.options)


def passes(model: Pass, batch: Sequence[Any], generator: torch.Generator) -> Signals:
    """What each member of a committee says."""
    members = list(model.members(batch))
    held = torch.stack([decisions.probs for decisions in members])
    return Signals(passes=held, offsets=members[0].offsets, options=members[0].options)


def embeddings(model: Pass, batch: Sequence[Any], generator: torch.Generator) -> Signals:
    """What the last linear layer reads, a row an example."""
    return Signals(embeddings=model.task.embeddings(model.rows(batch)))


def gradients(model: Pass, batch: Sequence[Any], generator: torch.Generator) -> Signals:
    """Factors of the last layer's gradient under the predicted labels."""
    return Signals(gradients=model.task.gradients(model.rows(batch), model.decisions(batch)))


def transitions(model: Pass, batch: Sequence[Any], generator: torch.Generator) -> Signals:
    """Which option may follow which, where the task says so."""
    return Signals(transitions=model.task.transitions(), count=len(batch))


def outside(model: Pass, batch: Sequence[Any], generator: torch.Generator) -> Signals:
    """The option that says "nothing here", where there is one."""
    return Signals(outside=model.task.outside, count=len(batch))


PROVIDERS: dict[str, Provider] = {
    "probs": probs,
    "sampled": sampled,
    "passes": passes,
    "embeddings": embeddings,
    "gradients": gradients,
    "transitions": transitions,
    "outside": outside,
}
"""A field's name and the function that makes it. Other packages may add theirs."""

SCORED: dict[str, Callable[..., torch.Tensor]] = {
    "egl": egl,
    "egl_word": egl_word,
    "adv_bim": adv_bim,
    "adv_deepfool": adv_deepfool,
}
"""A score's name and what makes it, (live model, batch, **parameters) → float[n]. Other packages may add theirs."""


def score(live: Live, need: str, model: Pass, batch: Sequence[Item], generator: torch.Generator) -> Signals:
    """One of the scores, by a pass with gradients."""
    name, parameters = parted(need)
    with torch.inference_mode(False), torch.enable_grad():
        made = SCORED[name](live, batch, **parameters)
    return Signals(scores={need.removeprefix(SCORES): made}, count=len(batch))


def collect(
    scorer: Scorer,
    examples: Sequence[Example],
    wanted: Iterable[str],
    generator: torch.Generator,
    in_shards: bool = False,
) -> Signals | None:
    """The wanted fields for all examples, in their order; None on all processes but the main one.

    in_shards: no process gets them all, but each the rows of its shard of the pool, never holding many more.
    All processes call it together.

    Raises:
        KeyError: a field has no provider.
    """
    state = processes()
    scores = {need for need in wanted if need.startswith(SCORES)}
    if scores and (rest := set(wanted) - scores):
        parts = [collect(scorer, examples, some, generator, in_shards) for some in (rest, scores)]
        return merge([part for part in parts if part is not None]) if parts[0] is not None else None
    live = scorer.live() if scores else None
    reader = live or scorer
    providers = [PROVIDERS[need] if live is None else partial(score, live, need) for need in sorted(wanted)]
    prepared, batches = reader.prepare(examples)
    shared = Pass(scorer)

    def found_in(batches: list[list[int]]) -> Batches:
        """What this process makes of its part of the batches."""
        found = Batches()
        if reader.sharded:
            batches = batches[state.process_index :: state.num_processes]
        elif not state.is_main_process:
            return found
        with torch.inference_mode():
            for members in batches:
                batch = [prepared[i] for i in members]
                made = [provider(shared, batch, generator).to("cpu") for provider in providers]
                found.add(members, merge([Signals(count=len(members)), *made]))
        return found

    if not in_shards:
        return _gather(found_in(batches).all(), reader.sharded)
    share = Share(len(examples), peers())
    for wave in _waves(batches, state.num_processes if reader.sharded else 1):
        share.deal(*found_in(wave).one())
    return share.signals()


def collect_members(
    scorer: Scorer,
    committees: Iterable[Committee],
    examples: Sequence[Example],
    wanted: Iterable[str],
    generator: torch.Generator,
    in_shards: bool = False,
) -> Signals | None:
    """As `collect`, with fields of the members of all committees, which come and go one after the other.

    Statistics are left out where the passes are wanted, which they can be taken from.
    """
    plain = set(wanted) - OF_MEMBERS
    name = "passes" if "passes" in set(wanted) else "sampled"
    found: Signals | None = None
    for committee in committees:
        own = plain if committee.plain else set()
        plain = plain - own
        part = collect(committee, examples, {name, *own}, generator, in_shards)
        if part is not None:
            found = part if found is None else merge([found, part, together(found, part)])
    rest = collect(scorer, examples, plain, generator, in_shards) if plain else None
    return found if found is None or rest is None else merge([found, rest])


def _waves(batches: list[list[int]], least: int) -> Iterator[list[list[int]]]:
    """The batches in their order, some at a time: about an eighth of a block of examples, but `least` batches."""
    wave: list[list[int]] = []
    examples = 0
    for batch in batches:
        if len(wave) >= least and examples + len(batch) > selection.BLOCK // 8:
            yield wave
            wave, examples = [], 0
        wave.append(batch)
        examples += len(batch)
    if wave:
        yield wave


def _gather(found: list[tuple[list[int], Signals]], sharded: bool) -> Signals | None:
    """Brings the processes' batches together, in the order of the examples. The one place where that happens."""
    if sharded:
        found = gathered(found)
    if not processes().is_main_process:
        return None
    return ordered(found) if found else Signals(count=0)
