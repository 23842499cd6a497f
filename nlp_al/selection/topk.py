"""The highest scores."""

import torch
from torch import Tensor

from nlp_al.selection.shards import Shard


def top(scores: Tensor, count: int, shard: Shard | None = None) -> Tensor:
    """Positions of the `count` highest of float[n] scores, highest first; ties go to the lowest. O(n log n).

    shard: where the scores are this process's, of a pool that several hold; of each its `count` highest go round.
    """
    best = torch.argsort(scores, descending=True, stable=True)[:count]
    if shard is None:
        return best
    offers, places = shard.join(scores[best]), shard.join(best + shard.start)
    return places[torch.argsort(offers, descending=True, stable=True)[:count]]
