"""The samplers by name: where the members of a committee come from."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from nlp_al.errors import UserError
from nlp_al.samplers.base import Fitted, Sampler
from nlp_al.samplers.dropout import McDropout
from nlp_al.samplers.ensemble import Ensemble
from nlp_al.samplers.heads import Heads
from nlp_al.samplers.laplace import LaplaceSampler
from nlp_al.samplers.layers import Layers
from nlp_al.samplers.snapshots import SnapshotSampler
from nlp_al.values import build, suggest

__all__ = ["SAMPLERS", "Fitted", "Sampler", "make_sampler", "sampler_class", "usual_sampler"]

SAMPLERS: dict[str, type[Sampler]] = {
    "mc_dropout": McDropout,
    "ensemble": Ensemble,
    "heads": Heads,
    "snapshots": SnapshotSampler,
    "laplace": LaplaceSampler,
    "layers": Layers,
}


def usual_sampler(mode: str) -> str:
    """The name of the one that a run takes where its config names none. mode: that of training."""
    return "heads" if mode == "frozen" else "mc_dropout"


def sampler_class(name: str) -> type[Sampler]:
    """The class behind a name, ours or one that an installed package registers under `nlp_al.samplers`."""
    if name in SAMPLERS:
        return SAMPLERS[name]
    registered = {point.name: point for point in entry_points(group="nlp_al.samplers")}
    if name not in registered:
        raise UserError(f"There is no sampler {name!r}: {suggest(name, {*SAMPLERS, *registered})}.")
    found: type[Sampler] = registered[name].load()
    return found


def make_sampler(name: str, parameters: dict[str, Any]) -> Sampler:
    """A sampler by name; UserError on an unknown name or parameter."""
    return build(sampler_class(name), parameters, "sampler")
