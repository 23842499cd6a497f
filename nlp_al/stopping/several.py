"""Several rules as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nlp_al.stopping.base import Decision, Observation, Rule


@dataclass(frozen=True)
class AnyOf(Rule):
    """Stops where one of several rules does."""

    rules: tuple[Rule, ...]

    name = "any"

    def update(self, seen: Sequence[Observation]) -> Decision:
        """Its reason is that of those that stop, or of all."""
        said = [rule.update(seen) for rule in self.rules]
        reasons = [one.reason for one in said if one.stop] or [one.reason for one in said]
        return Decision(any(one.stop for one in said), None, "; ".join(reasons))

    @property
    def measure(self) -> str:
        """Each rule has its own."""
        return ""

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Each rule has its own."""
        return None

    def inside(self) -> list[Rule]:
        """Those of all its rules."""
        return [one for rule in self.rules for one in rule.inside()]


@dataclass(frozen=True)
class AllOf(AnyOf):
    """Stops where all of several rules do, in the same round."""

    name = "all"

    def update(self, seen: Sequence[Observation]) -> Decision:
        """Its reason is that of all, or of those that do not stop."""
        said = [rule.update(seen) for rule in self.rules]
        reasons = [one.reason for one in said if not one.stop] or [one.reason for one in said]
        return Decision(all(one.stop for one in said), None, "; ".join(reasons))
