"""Several processes that hold a pool together choose what one chooses; threads stand for them here."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from nlp_al.selection.kcenter import k_center
from nlp_al.selection.kmeanspp import kmeans_plus_plus
from nlp_al.selection.shards import Peers, Shard, edges
from nlp_al.selection.topk import top
from nlp_al.signals import Gradients, SignalError, Signals
from nlp_al.signals.shards import Share, kept, own_rows
from nlp_al.strategies import Selection, make_strategy
from nlp_al.strategies.uncertainty import Margin
from nlp_al.testing import blocks_of, check_strategy, synthetic_signals
from nlp_al.testing.peers import with_peers

SHAPES = ("single", "multi", "sequence", "ranking")
LINE = torch.tensor([[0.0], [1.0], [2.0], [8.0], [9.0], [20.0]])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


def same_of_all(size: int, work: Callable[[Peers], Tensor]) -> list[int]:
    """What every one of so many processes found, once it is known to be the same."""
    found = [positions.tolist() for positions in with_peers(size, work)]
    assert all(one == found[0] for one in found), found
    return found[0]


# --- who holds what


@pytest.mark.parametrize(
    ("total", "size", "expected"),
    [
        (35, 1, [0, 35]),
        (35, 2, [0, 20, 35]),
        (35, 4, [0, 10, 20, 30, 35]),
        (25, 2, [0, 20, 25]),
        (61, 4, [0, 20, 40, 60, 61]),
        (5, 4, [0, 5, 5, 5, 5]),
        (0, 3, [0, 0, 0, 0]),
    ],
)
def test_each_process_holds_whole_blocks(total: int, size: int, expected: list[int]) -> None:
    with blocks_of(10):
        assert edges(total, size) == expected


def test_no_process_holds_more_than_one_block_above_the_others() -> None:
    with blocks_of(3):
        for total in range(60):
            for size in (1, 2, 3, 4, 7):
                bounds = edges(total, size)
                blocks = [-(-(stop - start) // 3) for start, stop in pairwise(bounds)]
                assert bounds[-1] == total
                assert max(blocks) - min(blocks) <= 1


# --- k-centre, k-means++, top


def shard_of(points: Tensor, peers: Peers) -> tuple[Tensor, Shard]:
    shard = Shard.of(len(points), peers)
    return points[shard.start : shard.stop].clone(), shard


def centred(points: Tensor, centres: Tensor | None, count: int, first: int | None, peers: Peers) -> Tensor:
    own, shard = shard_of(points, peers)
    return k_center(own, centres, count, first, shard)


def factors_of(factors: Gradients, peers: Peers) -> tuple[Gradients, Shard]:
    r, h, offsets = factors
    shard = Shard.of(len(offsets) - 1, peers)
    own = offsets[shard.start : shard.stop + 1]
    rows = slice(int(own[0]), int(own[-1]))
    return Gradients(r[rows].clone(), h[rows].clone(), own - own[0]), shard


def seeding(factors: Gradients, count: int, seed: int | None, peers: Peers) -> Tensor:
    own, shard = factors_of(factors, peers)
    return kmeans_plus_plus(own, count, None if seed is None else seeded(seed), shard)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_k_center_on_a_line(size: int, rows: int) -> None:
    """Points 0, 1, 2, 8, 9, 20: with 0 labelled 20, 9, 2; with 0 and 20 labelled 9; with nothing 8, 20, 0."""
    with blocks_of(rows):
        assert same_of_all(size, partial(centred, LINE, LINE[:1], 3, None)) == [5, 4, 2]
        assert same_of_all(size, partial(centred, LINE, LINE[[0, 5]], 1, None)) == [4]
        assert same_of_all(size, partial(centred, LINE, None, 3, None)) == [3, 5, 0]
        assert same_of_all(size, partial(centred, LINE, None, 2, 2)) == [2, 5]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("rows", [7, 16])
@pytest.mark.parametrize("seed", range(4))
def test_k_center_picks_what_one_process_picks(size: int, rows: int, seed: int) -> None:
    distinct = normal(50, 9, seed=seed)
    points = torch.cat([distinct, distinct[:23], distinct[[4]].repeat(20, 1)])  # in other blocks
    with blocks_of(rows):
        for centres in (None, points[:2], normal(70, 9, seed=seed + 9)):
            for count in (0, 1, 40, 93):
                alone = k_center(points, centres, count).tolist()
                assert same_of_all(size, partial(centred, points, centres, count, None)) == alone


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_k_means_plus_plus_picks_what_one_process_picks(size: int, shape: str) -> None:
    signals = synthetic_signals(shape, 61, seed=3, undecided=4)
    factors = signals.take(torch.cat([torch.arange(61), torch.arange(17)])).factors()
    for rows in (7, 16):
        with blocks_of(rows):
            for seed in (*range(6), None):
                draws = None if seed is None else seeded(seed)
                alone = kmeans_plus_plus(factors, 20, draws).tolist()
                assert same_of_all(size, partial(seeding, factors, 20, seed)) == alone


def test_equal_gradients_are_drawn_among_all_processes() -> None:
    equal = Gradients(torch.ones(40, 1), torch.ones(40, 3), torch.arange(41))
    with blocks_of(4):
        for seed in range(10):
            alone = kmeans_plus_plus(equal, 40, seeded(seed)).tolist()
            assert sorted(alone) == list(range(40))
            assert same_of_all(4, partial(seeding, equal, 40, seed)) == alone
        assert same_of_all(4, partial(seeding, equal, 40, None)) == list(range(40))


@pytest.mark.parametrize(("draw", "second"), [(0.0, 2), (1.0, 4)])
def test_no_draw_hits_a_pick_at_either_end(draw: float, second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six positions the first two and the last one are equal, and the longest: their blocks have no weight left."""
    points = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 1.0], [1.0, 1.0], [3.0, 0.0]])
    factors = Gradients(torch.ones(6, 1), points, torch.arange(7))
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.tensor(draw, dtype=torch.float64))
    for rows in (1, 2, 6):
        with blocks_of(rows):
            for size in (1, 2, 4):
                assert same_of_all(size, partial(seeding, factors, 2, 0)) == [0, second]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_blocks_are_drawn_in_proportion_to_their_weight(size: int) -> None:
    """g = (3, 0), (0, 2), (0, 0), one in a block: (0, 2) is second in 13 of 22 draws."""
    factors = Gradients(torch.ones(3, 1), torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), torch.arange(4))
    draws = 300
    with blocks_of(1):
        found = with_peers(size, lambda peers: [seeding(factors, 2, seed, peers)[1].item() for seed in range(draws)])
    assert all(one == found[0] for one in found)
    share, spread = found[0].count(1) / draws, (13 / 22 * 9 / 22 / draws) ** 0.5
    assert abs(share - 13 / 22) < 3.3 * spread


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_highest_of_all_with_ties_in_the_order_of_the_pool(size: int) -> None:
    scores = torch.randint(0, 4, (61,), generator=seeded(0)).double()
    scores[[5, 40]] = -torch.inf

    def highest(peers: Peers, count: int) -> Tensor:
        own, shard = shard_of(scores, peers)
        return top(own, count, shard)

    with blocks_of(6):
        for count in (0, 1, 7, 30, 61):
            assert same_of_all(size, partial(highest, count=count)) == top(scores, count).tolist()


class Counting:
    """Peers that keep in mind how many rows with several columns went round."""

    def __init__(self, peers: Peers) -> None:
        self.peers, self.rank, self.size = peers, peers.rank, peers.size
        self.rows = 0

    def join(self, rows: Tensor) -> Tensor:
        found = self.peers.join(rows)
        self.rows += len(found) if found.dim() == 2 and found.shape[1] == 9 else 0
        return found

    def deal(self, part):
        raise AssertionError


def test_of_the_pool_only_picks_and_a_sum_a_block_go_round() -> None:
    points = normal(90, 9)

    def counted(peers: Peers) -> list[int]:
        centring, drawing = Counting(peers), Counting(peers)
        centred(points, None, 12, None, centring)
        seeding(Gradients(torch.ones(90, 1), points, torch.arange(91)), 12, 0, drawing)
        return [centring.rows, drawing.rows]

    with blocks_of(16):
        assert with_peers(4, counted) == [[6 + 12, 12]] * 4


# --- records


def parts_of(signals: Signals, peers: Peers) -> Signals:
    """Batches of four in a shuffled order, made by one process after the other."""
    share = Share(len(signals), peers)
    order = torch.randperm(len(signals), generator=seeded(1)).split(4)
    for turn in range(-(-len(order) // peers.size)):
        mine = order[turn * peers.size + peers.rank :][:1]
        share.deal(*((mine[0].tolist(), signals.take(mine[0])) if mine else ([], None)))
    return share.signals()


def assert_same(one: Signals, other: Signals) -> None:
    for name in ("probs", "offsets", "options", "embeddings", "pretrained", "passes", "askable", "cost"):
        mine, its = getattr(one, name), getattr(other, name)
        assert (mine is None) == (its is None), name
        assert mine is None or torch.equal(mine, its), name
    for mine, its in zip(one.gradients or (), other.gradients or (), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_whoever_makes_rows_each_process_gets_its_own(shape: str, size: int) -> None:
    whole = replace(synthetic_signals(shape, 29, labelled=0, undecided=2, cost=True), surprisal=None)
    with blocks_of(8):
        found = with_peers(size, partial(parts_of, whole))
        bounds = edges(29, size)
    for own, (start, stop) in zip(found, pairwise(bounds), strict=True):
        assert_same(own, whole.take(torch.arange(start, stop)))
        assert (len(own), own.total) == (stop - start, 29)


def test_a_process_without_rows_knows_their_fields() -> None:
    whole = synthetic_signals("ranking", 5, labelled=0)
    for own in with_peers(3, partial(parts_of, whole))[1:]:  # all five are in the first block
        assert len(own) == 0
        assert own.probs.shape == (0, 5)
        assert own.embeddings.shape == (0, whole.embeddings.shape[1])
        assert own.factors().h.shape[0] == 0


def test_all_columns_are_there_on_every_process() -> None:
    """Candidates vary: the widest example may be another process's."""
    wide, narrow = synthetic_signals("ranking", 40), synthetic_signals("ranking", 40)
    few = torch.nonzero(narrow.options <= 3).flatten()[:8]
    bare = dict.fromkeys(("passes", "sampled", "out_of_fold", "labelled"))
    narrow = replace(narrow.take(few), probs=narrow.take(few).probs[:, :3], **bare)
    wide = replace(wide.take(torch.nonzero(wide.options == 5).flatten()[:4]), **bare)

    def dealt(peers: Peers) -> Signals:
        share = Share(12, peers)
        share.deal(*((list(range(8)), narrow) if peers.rank == 0 else (list(range(8, 12)), wide)))
        return share.signals()

    with blocks_of(4):
        found = with_peers(2, dealt)
    assert [own.probs.shape for own in found] == [(8, 5), (4, 5)]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_what_is_kept_of_a_pool_is_dealt_anew(size: int) -> None:
    whole = synthetic_signals("sequence", 29)
    positions = torch.randperm(29, generator=seeded(2))[:21]

    def keep(peers: Peers) -> Signals:
        return kept(own_rows(whole, peers), positions)

    with blocks_of(5):
        found, bounds = with_peers(size, keep), edges(21, size)
    for own, (start, stop) in zip(found, pairwise(bounds), strict=True):
        assert_same(own, whole.take(positions[start:stop]))
        assert own.labelled is whole.labelled
    assert_same(kept(whole, positions), whole.take(positions))


# --- strategies


@dataclass(frozen=True)
class Local(Margin):
    """Takes its own rows for the pool."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        found = super().choose(replace(signals, shard=None), count, generator)
        return replace(found, indices=found.indices[:count])


def test_a_strategy_that_takes_its_own_rows_for_the_pool_breaks_the_promise() -> None:
    with pytest.raises(AssertionError, match="Local breaks I9 on single signals"):
        check_strategy(Local, ("single",))


def test_what_is_wrong_with_one_process_s_rows_is_told_by_all() -> None:
    signals = synthetic_signals("single", 20, labelled=0)
    embeddings = signals.embeddings.clone()
    embeddings[17, 2] = torch.nan

    def select(peers: Peers) -> str:
        with pytest.raises(SignalError) as told:
            make_strategy("coreset").select(own_rows(replace(signals, embeddings=embeddings), peers), 3, seeded(0))
        return str(told.value)

    with blocks_of(5):
        assert with_peers(4, select) == ["embeddings holds NaN or infinity."] * 4
