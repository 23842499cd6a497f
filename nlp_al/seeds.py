"""A seed of its own for each use of chance."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, round_: int, purpose: str) -> int:
    """A seed for one purpose in one round, so that one more draw here moves nothing elsewhere."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{round_}/{purpose}".encode(), digest_size=4).digest(), "big")


def generator_of(seed: int, round_: int, purpose: str) -> torch.Generator:
    """A generator with that seed; a restart draws what the first process drew."""
    return torch.Generator().manual_seed(derived_seed(seed, round_, purpose))
