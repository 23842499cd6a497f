"""Records of a pool that several processes hold: each has the rows of its own blocks, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nlp_al.selection.shards import Peers, Shard, edges
from nlp_al.signals import Signals
from nlp_al.signals.merging import Batches, ordered


class Share:
    """This process's rows of a pool of `total` examples, as they come from all processes."""

    def __init__(self, total: int, peers: Peers) -> None:
        self.shard = Shard.of(total, peers)
        self._edges = edges(total, peers.size)
        self._parts = Batches()

    def deal(self, members: Sequence[int], part: Signals | None) -> None:
        """Hands the rows of a record to the processes whose they are, on the CPU; members: positions, -1 for nobody's.

        All processes call it together; one that has made nothing gives None.
        """
        positions = torch.tensor(members, dtype=torch.int64)

        def of(rank: int) -> tuple[Tensor, Signals] | None:
            if part is None:
                return None
            inside = (positions >= self._edges[rank]) & (positions < self._edges[rank + 1])
            rows = torch.nonzero(inside).flatten()
            return positions[rows], replace(part, labelled=None, validation=None, shard=None).take(rows).to("cpu")

        for given in self.shard.peers.deal(of):
            if given is not None:
                self._parts.add((given[0] - self.shard.start).tolist(), given[1])

    def signals(self) -> Signals:
        """The record of this process's rows, which are no longer held here."""
        # Records without rows are among them: they tell what the fields are, and how many options a decision has.
        batches = self._parts.all()
        self._parts = Batches()
        return replace(ordered(batches) if batches else Signals(count=0), shard=self.shard)


def own_rows(signals: Signals, peers: Peers) -> Signals:
    """This process's share of a record that every process holds; the other roles stay whole."""
    shard = Shard.of(len(signals), peers)
    return replace(signals.take(torch.arange(shard.start, shard.stop)), shard=shard)


def kept(signals: Signals, positions: Tensor) -> Signals:
    """The record of some examples, by their positions in the pool, in the order given; the other roles stay whole.

    Of a pool that several processes hold, rows are dealt anew, so that blocks are whole; all call it together.
    """
    if signals.shard is None:
        return signals.take(positions)
    shard = signals.shard
    positions = positions.cpu()
    held = torch.nonzero((positions >= shard.start) & (positions < shard.stop)).flatten()
    places = torch.full((shard.stop - shard.start,), -1)
    places[positions[held] - shard.start] = held
    share = Share(len(positions), shard.peers)
    share.deal(places.tolist(), signals)
    about = {name: getattr(signals, name) for name in ("round", "labelled", "validation")}
    return replace(share.signals().to(signals.device), **about)
