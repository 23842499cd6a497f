"""What a model says about the pool: one record of named fields, each there only when a strategy names it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nlp_al.decisions import Decisions
from nlp_al.selection.shards import Shard
from nlp_al.signals.sampled import Sampled, statistics

# Name: number of dimensions, and the type it is held in (None: float32 or float64, as it came).
_FORMS: dict[str, tuple[int, torch.dtype | None]] = {
    "probs": (2, None),
    "offsets": (1, torch.int64),
    "options": (1, torch.int64),
    "embeddings": (2, None),
    "pretrained": (2, None),
    "surprisal": (2, None),
    "masked_surprisal": (2, None),
    "mlm_entropy": (2, None),
    "masked_mlm_entropy": (2, None),
    "gradients.r": (2, None),
    "gradients.h": (2, None),
    "gradients.offsets": (1, torch.int64),
    # Words are counted exactly, and the sum of a batch must be what the budget says.
    "cost": (1, torch.float64),
    "askable": (1, torch.bool),
    "asked": (1, torch.int64),
    "transitions": (2, None),
    "passes": (3, None),
    "targets": (1, torch.int64),
    "votes": (2, torch.int64),
    "out_of_fold": (2, None),
    # Differences of means that are nearly equal.
    "sampled.mean": (2, torch.float64),
    "sampled.entropy": (1, torch.float64),
    "sampled.votes": (2, torch.int32),
    "sampled.squares": (2, torch.float64),
}
SURPRISALS = ("surprisal", "masked_surprisal", "mlm_entropy", "masked_mlm_entropy")
"""What a pretrained masked language model finds surprising."""
PER_EXAMPLE = ("embeddings", "pretrained", *SURPRISALS, "cost", "askable", "asked")
SCORES = "scores."
"""What a need begins with that is one of the scores."""
OPTIONAL = frozenset({"transitions", "outside"})
"""Facts about the options, the same for all examples; a strategy that names one does without it where it is absent."""
OF_MEMBERS = frozenset({"sampled", "passes"})
"""What several members say: passes with dropout, models, heads or draws of weights."""
PER_DECISION = frozenset({"probs", "targets", "votes", "out_of_fold", *OF_MEMBERS})
INSTEAD = {"gradients": ("probs", "embeddings"), "pretrained": ("embeddings",), "sampled": ("passes",)}
"""What a field is derived from where it is absent."""


class SignalError(ValueError):
    """A field is missing, has the wrong shape, or holds NaN or infinity; the message names it."""


class Gradients(NamedTuple):
    """Last-layer gradients as factors: example i has Σ_j r_j ⊗ h_j over its rows j, never multiplied out.

    r: float[J, R]. h: float[J, d]. offsets: int64[n + 1].
    """

    r: Tensor
    h: Tensor
    offsets: Tensor


@dataclass(frozen=True, eq=False)
class Signals:
    """What is known of n examples, on one device; half precision and whole numbers become float32.

    probs: float[M, O], a row a decision; offsets: int64[n + 1], the rows of an example (absent: one each);
    options: int64[M], the valid leading columns of a row (absent: all; what stands in the others is never read).
    sampled: `Sampled`, or a tuple like it, statistics over T members of a committee for the same rows. passes:
    float[T, M, O], the probabilities of each member, which `sampled` is taken from where it is absent.
    targets: int64[M], of labelled examples alone: the column that the label takes in each decision. votes: int64[M, J],
    likewise, the column that each annotator gave, −1 where nothing. out_of_fold: float[M, O], likewise, as probs, each
    by a model that did not learn from the example.
    embeddings: float[n, d]. pretrained: float[n, d], never fine-tuned. gradients: `Gradients`, or a triple like it.
    surprisal: float[n, T], a pretrained masked language model's losses of tokens that were drawn, 0 elsewhere;
    masked_surprisal: the same, those tokens having been masked. mlm_entropy, masked_mlm_entropy: likewise, of the
    entropies of what the model expects there.
    scores: what passes of their own say, with gradients or by another model, float[n] by name, higher = ask first,
    minus infinity last. Of the name `x` the need is `scores.x`; parameters of the pass are part of it
    (`nlp_al.strategies.scored.need`).
    cost: float[n], what asking costs (absent: one record each, and sizes count records).
    askable: bool[n], False where there is nothing to decide (absent: read off probs).
    asked: int64[n], of labelled examples alone: the round in which they were asked about, 0 for the initial set.
    transitions: float[O + 1, O], log-weights of going from one option to the next, the last row from the start of an
    example: 0 is allowed, minus infinity forbidden. outside: the column that says "nothing here", of no entity.
    count: n, where no other field tells. round: which batch is being chosen, counted from 1. labelled: the same record
    for the labelled examples; validation: for those of the validation split.
    shard: of a pool that several processes hold, which rows these are; all here is about those alone, but for `total`,
    `labelled` and `validation`. All processes call `require` and `of_all` together.

    Raises:
        SignalError: a field has the wrong number of dimensions, fields lie on several devices or disagree on n, offsets
            and options do not fit their rows, or transitions and outside do not fit the columns of probs.
    """

    probs: Tensor | None = None
    offsets: Tensor | None = None
    options: Tensor | None = None
    sampled: Sampled | tuple[Tensor, Tensor, Tensor, Tensor, int] | None = None
    passes: Tensor | None = None
    targets: Tensor | None = None
    votes: Tensor | None = None
    out_of_fold: Tensor | None = None
    embeddings: Tensor | None = None
    pretrained: Tensor | None = None
    surprisal: Tensor | None = None
    masked_surprisal: Tensor | None = None
    mlm_entropy: Tensor | None = None
    masked_mlm_entropy: Tensor | None = None
    scores: Mapping[str, Tensor] | None = None
    gradients: Gradients | tuple[Tensor, Tensor, Tensor] | None = None
    cost: Tensor | None = None
    askable: Tensor | None = None
    asked: Tensor | None = None
    transitions: Tensor | None = None
    outside: int | None = None
    count: int | None = None
    round: int | None = None
    labelled: Signals | None = None
    validation: Signals | None = None
    shard: Shard | None = None

    def __post_init__(self) -> None:
        for name in _FORMS:
            if (value := getattr(self, name, None)) is not None:
                object.__setattr__(self, name, _plain(name, value))
        if self.scores is not None:
            made = {name: _plain(f"{SCORES}{name}", values) for name, values in self.scores.items()}
            object.__setattr__(self, "scores", made)
        if self.gradients is not None:
            parts = zip(Gradients._fields, self.gradients, strict=True)
            object.__setattr__(self, "gradients", Gradients(*(_plain(f"gradients.{n}", part) for n, part in parts)))
        if self.sampled is not None:
            held = Sampled(*self.sampled).each(lambda name, part: _plain(f"sampled.{name}", part))
            object.__setattr__(self, "sampled", held)
        self._check_devices()
        rows = next((held for held in (self._decided(), self.targets, self.votes) if held is not None), None)
        if rows is not None and self.offsets is None:
            object.__setattr__(self, "offsets", torch.arange(len(rows) + 1, device=rows.device))
        object.__setattr__(self, "count", self._agreed_count())
        self._check_rows()

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All that is held, in each role, by name."""
        for name in _FORMS:
            whole, _, part = name.partition(".")
            if (value := getattr(self, whole)) is not None:
                yield name, getattr(value, part) if part else value
        yield from ((f"{SCORES}{name}", values) for name, values in (self.scores or {}).items())
        for role, others in (("labelled", self.labelled), ("validation", self.validation)):
            if others is not None:
                yield from ((f"{role}.{name}", value) for name, value in others._tensors())

    def _check_devices(self) -> None:
        if len({value.device for _, value in self._tensors()}) > 1:
            devices = {value.device: name for name, value in self._tensors()}
            told = ", ".join(f"{name} on {device}" for device, name in devices.items())
            raise SignalError(f"The fields lie on several devices: {told}.")

    def _agreed_count(self) -> int:
        counts = {name: len(value) for name in PER_EXAMPLE if (value := getattr(self, name)) is not None}
        counts |= {f"{SCORES}{name}": len(values) for name, values in (self.scores or {}).items()}
        if self.offsets is not None:
            counts["offsets"] = self.offsets.numel() - 1
        if self.gradients is not None:
            counts["gradients"] = self.gradients[2].numel() - 1
        if self.count is not None:
            counts["count"] = self.count
        if not counts:
            raise SignalError("Signals without any field need `count`, the number of examples.")
        if self.shard is not None:
            counts["shard"] = self.shard.stop - self.shard.start
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {number}" for name, number in counts.items())
            raise SignalError(f"The fields disagree on the number of examples: {told}.")
        return next(iter(counts.values()))

    def _check_rows(self) -> None:
        ragged = []
        decided = self.of_decisions()
        if decided and self.offsets is not None:
            name = next(iter(decided))
            rows, columns = decided[name].shape[-2:]
            ragged.append((name, rows, self.offsets))
            self._check_options(name, rows, columns)
            for other, values in decided.items():
                shape = (*values.shape, columns) if values.dim() == 1 else values.shape[-2:]
                if tuple(shape) != (rows, columns):
                    raise SignalError(f"{other} is {_shown(shape)}; it must be {rows} x {columns}, as {name} is.")
        if self.targets is not None and self.offsets is not None:
            ragged.append(("targets", len(self.targets), self.offsets))
            if bool((self.targets < 0).any()):
                raise SignalError("targets must not be negative; they are columns.")
        if self.votes is not None and self.offsets is not None:
            ragged.append(("votes", len(self.votes), self.offsets))
        if self.gradients is not None:
            r, h, offsets = self.gradients
            ragged += [("gradients.r", len(r), offsets), ("gradients.h", len(h), offsets)]
        for name, rows, offsets in ragged:
            fits = offsets.numel() > 0 and int(offsets[0]) == 0 and int(offsets[-1]) == rows
            if not fits or bool((offsets.diff() < 0).any()):
                raise SignalError(f"The offsets of {name} must rise from 0 to its {rows} rows.")

    def _check_options(self, name: str, rows: int, columns: int) -> None:
        if columns == 0:
            raise SignalError(f"{name} has no columns; a decision has at least one option.")
        if self.options is not None:
            if len(self.options) != rows:
                raise SignalError(f"options has {len(self.options)} entries for {rows} rows of {name}.")
            if bool(((self.options < 1) | (self.options > columns)).any()):
                raise SignalError(f"options must lie between 1 and {columns}, the columns of {name}.")
        if self.transitions is not None and self.transitions.shape != (columns + 1, columns):
            shape = _shown(self.transitions.shape)
            raise SignalError(f"transitions is {shape}; for {columns} columns it is {columns + 1} x {columns}.")
        if self.outside is not None and not 0 <= self.outside < columns:
            raise SignalError(f"outside is {self.outside}; it must be one of the {columns} columns of {name}.")

    def __len__(self) -> int:
        assert self.count is not None
        return self.count

    @property
    def device(self) -> torch.device:
        """Where all the tensors are; the CPU where there are none."""
        return next((value.device for _, value in self._tensors()), torch.device("cpu"))

    @property
    def nbytes(self) -> int:
        """Bytes of all the tensors, those of the other roles among them."""
        return sum(value.nbytes for _, value in self._tensors())

    def to(self, device: torch.device | str) -> Signals:
        """The same record with all tensors on a device, those of the other roles too."""

        def moved(value: Any) -> Any:
            if isinstance(value, Tensor | Signals):
                return value.to(device)
            if isinstance(value, Mapping):
                return {name: moved(part) for name, part in value.items()}
            return tuple(map(moved, value)) if isinstance(value, tuple) else value

        if torch.device(device) == self.device:
            return self
        return replace(self, **{f.name: moved(getattr(self, f.name)) for f in fields(self)})

    @property
    def total(self) -> int:
        """The number of examples of the whole pool, where several processes hold it; else n."""
        return len(self) if self.shard is None else self.shard.total

    def of_all(self, values: Tensor) -> Tensor:
        """[total, ...] out of [n, ...]: what all processes have of their own examples, in the order of the pool."""
        return values if self.shard is None else self.shard.join(values)

    def of_decisions(self) -> dict[str, Tensor]:
        """The tensors with a row a decision, those with O columns first; in passes rows are the second dimension."""
        mean, entropy, votes, squares, _ = self.sampled or (None,) * 5
        given = {"probs": self.probs, "sampled.mean": mean, "passes": self.passes, "sampled.votes": votes}
        given |= {"sampled.squares": squares, "sampled.entropy": entropy, "out_of_fold": self.out_of_fold}
        return {name: values for name, values in given.items() if values is not None}

    def _decided(self) -> Tensor | None:
        """float[M, O] with the shape that probs have or would have."""
        if self.passes is not None and len(self.passes) == 0:
            raise SignalError("passes has no members.")
        values = next(iter(self.of_decisions().values()), None)
        return values[0] if values is not None and values.dim() == 3 else values

    @property
    def decisions(self) -> Decisions:
        """The distributions; raises SignalError without probs."""
        if self.probs is None or self.offsets is None:
            raise SignalError("The signals have no probs.")
        return Decisions(self.probs, self.offsets, self.options)

    def members(self) -> list[Decisions]:
        """The distributions of each member; raises SignalError without passes."""
        if self.passes is None or self.offsets is None:
            raise SignalError("The signals have no passes.")
        return [Decisions(probs, self.offsets, self.options) for probs in self.passes]

    def statistics(self) -> Sampled:
        """What the members say together; raises SignalError where there are neither sampled nor passes."""
        if self.sampled is not None:
            return Sampled(*self.sampled)
        if self.passes is None:
            raise SignalError("The signals have no sampled, nor passes to take its place.")
        return statistics(self.members())

    def can_ask(self) -> Tensor:
        """bool[n]: False for examples with nothing to decide; these come behind all others, whatever the strategy."""
        if self.askable is not None:
            return self.askable
        if (decided := self._decided()) is not None and self.offsets is not None:
            return Decisions(decided, self.offsets, self.options).askable()
        return torch.ones(len(self), dtype=torch.bool, device=self.device)

    def require(
        self, needs: Iterable[str], needs_labelled: Iterable[str] = (), needs_validation: Iterable[str] = ()
    ) -> None:
        """Every needed field is there and finite, here and in the other roles, wherever there is any example.

        Raises:
            SignalError: names the first field that is not, or whose width differs between the roles; on every
                process, where it is so on any.
        """
        wrong = self._unfit(set(needs), {"labelled": needs_labelled, "validation": needs_validation})
        if self.shard is not None:
            wrong = self.shard.told(wrong)
        if wrong:
            raise SignalError(wrong)

    def _unfit(self, needs: set[str], of_roles: Mapping[str, Iterable[str]]) -> str:
        """What is wrong with the fields, in a sentence; empty where nothing is."""
        try:
            if len(self):
                self._check_fields(needs)
            for role, wanted in of_roles.items():
                self._check_role(role, wanted)
        except SignalError as error:
            return str(error)
        return ""

    def _check_fields(self, needs: set[str]) -> None:
        for need in sorted(needs - OPTIONAL):
            for name in self._sources(need):
                self._check_finite(name, "")
        if self.transitions is not None and "transitions" in needs:
            if not bool((self.transitions < torch.inf).all()):  # nor is NaN below it
                raise SignalError("transitions holds NaN or infinity.")
            if bool((self.transitions.amax(1) == -torch.inf).any()):
                raise SignalError("transitions has a row that forbids every option, so that no sequence could go on.")
        if self.cost is not None and not bool((torch.isfinite(self.cost) & (self.cost >= 0)).all()):
            raise SignalError("cost must be finite and not negative.")

    def _check_role(self, role: str, needs: Iterable[str]) -> None:
        known: Signals | None = getattr(self, role)
        if known is None or len(known) == 0:
            return
        for need in sorted(needs):
            for name in self._sources(need):
                known._check_finite(name, f"{role}.")
                here, there = getattr(self, name), getattr(known, name)
                if name in ("embeddings", "pretrained") and here is not None and here.shape[1] != there.shape[1]:
                    raise SignalError(f"{role}.{name} has {there.shape[1]} columns, {name} has {here.shape[1]}.")

    def _sources(self, need: str) -> tuple[str, ...]:
        """The field itself, or those that it is derived from where it is absent."""
        instead = INSTEAD.get(need, ())
        if not instead or self._value(need) is not None:
            return (need,)
        if any(getattr(self, name) is None for name in instead):
            raise SignalError(f"The signals have no {need}, nor {' and '.join(instead)} to take its place.")
        return instead

    def _value(self, need: str) -> Any:
        """The field that a need names."""
        return (self.scores or {}).get(need.removeprefix(SCORES)) if need.startswith(SCORES) else getattr(self, need)

    def _check_finite(self, name: str, role: str) -> None:
        value = self._value(name)
        if value is None:
            raise SignalError(f"The signals have no {role}{name}.")
        for part, values in self._parts(name, value):
            # The extremes are NaN or infinite when anything is; isfinite would hold a copy of the whole field.
            extremes = torch.aminmax(values) if values.numel() else ()
            lowest = -torch.inf if name.startswith(SCORES) else torch.finfo(torch.float64).min
            if not all(lowest <= float(extreme) < torch.inf for extreme in extremes):
                raise SignalError(f"{role}{part} holds NaN or infinity.")

    def _parts(self, name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
        """The tensors that a field is made of, without what stands in columns that are no option."""
        if name == "gradients":
            yield from (("gradients.r", value[0]), ("gradients.h", value[1]))
        elif name in ("probs", "out_of_fold"):
            assert self.offsets is not None
            yield name, Decisions(value, self.offsets, self.options).masked
        elif name == "passes":
            yield from ((name, member.masked) for member in self.members())
        elif name == "sampled":
            assert self.offsets is not None
            yield "sampled.entropy", value[1]
            for part, values in (("mean", value[0]), ("squares", value[3])):
                yield f"sampled.{part}", Decisions(values, self.offsets, self.options).masked
        else:
            yield name, value

    def factors(self) -> Gradients:
        """The gradient factors, derived from probs and embeddings where an example has one decision.

        The derived form is (p − e_ŷ) ⊗ h with ŷ the predicted class. Raises SignalError where it can't be derived.
        """
        if self.gradients is not None:
            return Gradients(*self.gradients)
        if self.probs is None or self.embeddings is None:
            raise SignalError("The signals have no gradients, nor probs and embeddings to take its place.")
        decisions = self.decisions
        if bool((decisions.offsets.diff() != 1).any()) or decisions.options is not None:
            raise SignalError("gradients can only be derived where each example has one decision over fixed options.")
        return Gradients(residual(decisions.probs), self.embeddings, decisions.offsets)

    def before_training(self) -> tuple[Tensor, Tensor]:
        """Embeddings that were never fine-tuned, of the pool and the labelled set: float[n, d] and float[l, d].

        The model's own where the pool has no others; both come from the same field, or they would not compare.
        """
        (name,) = self._sources("pretrained")
        pool: Tensor = getattr(self, name)
        if self.labelled is None or len(self.labelled) == 0:
            return pool, pool[:0]
        return pool, getattr(self.labelled, name)

    def take(self, indices: Tensor) -> Signals:
        """The record of some examples, in the order given; the other roles stay whole.

        Of a pool that several processes hold, they are among this one's; `kept` takes from the whole.
        """
        taken: dict[str, Any] = {f.name: None for f in fields(self)}
        taken.update(count=indices.numel(), round=self.round, labelled=self.labelled, validation=self.validation)
        taken.update({name: getattr(self, name) for name in OPTIONAL})
        for name in PER_EXAMPLE:
            if (value := getattr(self, name)) is not None:
                taken[name] = value[indices]
        if self.scores is not None:
            taken["scores"] = {name: values[indices] for name, values in self.scores.items()}
        if self.offsets is not None:
            rows, taken["offsets"] = take_rows(self.offsets, indices)
            for name in ("probs", "targets", "votes", "out_of_fold"):
                if (value := getattr(self, name)) is not None:
                    taken[name] = value[rows]
            taken["passes"] = self.passes[:, rows] if self.passes is not None else None
            if self.sampled is not None:
                taken["sampled"] = Sampled(*self.sampled).each(lambda _, part: part[rows])
            if self.options is not None:
                taken["options"] = self.options[rows]
        if self.gradients is not None:
            r, h, offsets = self.gradients
            rows, offsets = take_rows(offsets, indices)
            taken["gradients"] = Gradients(r[rows], h[rows], offsets)
        return replace(self, **taken)


def residual(probs: Tensor) -> Tensor:
    """p − e_ŷ, the gradient at the logits under the predicted label: float[M, O]; ties go to the first column."""
    return probs - torch.nn.functional.one_hot(probs.argmax(dim=1), probs.shape[1]).to(probs.dtype)


def take_rows(offsets: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of some segments, one after the other, and the offsets that part them."""
    lengths = offsets.diff()[indices]
    out = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    start = torch.repeat_interleave(offsets[:-1][indices] - out[:-1], lengths)
    return start + torch.arange(int(out[-1]), device=out.device), out


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _plain(name: str, value: Tensor) -> Tensor:
    dimensions, held_as = _FORMS.get(name, (1, None))
    if value.dim() != dimensions:
        raise SignalError(f"{name} has {value.dim()} dimensions; it must have {dimensions}.")
    if held_as is None:
        held_as = value.dtype if value.dtype in (torch.float32, torch.float64) else torch.float32
    return value.detach().to(held_as)
