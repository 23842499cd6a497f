"""Signals on a GPU that is emulated: what it refuses, how records get there, where batches are chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_stages import Model, seeded, view
from torch import Tensor

from nlp_al import placing
from nlp_al.config import Stage
from nlp_al.placing import ROOM, placed, repeatable
from nlp_al.processes import _Launched
from nlp_al.query import choose_batch
from nlp_al.selection import kmeanspp, typicality
from nlp_al.selection.shards import Peers
from nlp_al.signals import SignalError, Signals
from nlp_al.signals.collector import PROVIDERS, collect
from nlp_al.signals.shards import own_rows
from nlp_al.strategies import Selection, Strategy, clusters, make_strategy, representatives
from nlp_al.strategies.uncertainty import Margin
from nlp_al.testing import blocks_of, check_strategy, synthetic_signals
from nlp_al.testing.device import DEVICE, emulated_device
from nlp_al.testing.peers import with_peers
from nlp_al.testing.variants import tensors

# --- the emulation

HERE = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (lambda x: x + HERE, "same device"),
        (lambda x: HERE.mul_(x), "same device"),
        (lambda x: HERE.sum().add_(x.sum()), "same device"),
        (lambda x: torch.cat([x, HERE]), "same device"),
        (lambda x: torch.stack([x.sum(), HERE.sum()]), "same device"),
        (lambda x: x @ HERE.T, "same device"),
        (lambda x: torch.where(HERE > 1, x, 0.0), "same device"),
        (lambda x: x.masked_fill(HERE > 1, 0.0), "same device"),
        (lambda x: x.index_add_(0, torch.tensor([0]), x[:1]), "same device"),
        (lambda x: torch.searchsorted(x[0], HERE.sum()), "same device"),
        (lambda x: x.__setitem__(0, HERE[0]), "same device"),
        (lambda x: HERE[x[0].long()], "indices should be"),
        (lambda x: HERE[x > 1], "indices should be"),
        (lambda x: x.numpy(), "can't convert"),
        (lambda x: torch.rand(3, generator=seeded(), device=x.device), "generator"),
        (lambda x: torch.empty_like(x).exponential_(generator=seeded()), "generator"),
        (lambda x: torch.multinomial(x, 1, generator=seeded()), "generator"),
    ],
)
def test_it_refuses_what_a_gpu_refuses(refused: Callable[[Tensor], Any], says: str) -> None:
    with emulated_device() as device, pytest.raises((RuntimeError, TypeError), match=says):
        refused(HERE.clone().to(device))


@pytest.mark.parametrize(
    "made",
    [
        lambda x: x[torch.tensor([1])],
        lambda x: x[x > 1],
        lambda x: x * torch.tensor(2.0) + 1,
        lambda x: torch.zeros(2, 3, device=x.device),
        lambda x: torch.tensor([1], device=x.device),
        lambda x: x.new_zeros(2),
        lambda x: torch.zeros_like(x).copy_(HERE),
        lambda x: torch.ones(2).to(x),
        lambda x: x.sort(dim=1).values,
        lambda x: x.max(dim=1).indices,
        lambda x: x.split(1)[1],
        lambda x: torch.autograd.grad((y := x.detach().requires_grad_()).square().sum(), y)[0],
    ],
)
def test_what_is_made_of_it_stays_there(made: Callable[[Tensor], Tensor]) -> None:
    with emulated_device() as device:
        assert made(HERE.to(device)).device == device


@pytest.mark.parametrize(
    "made",
    [
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: torch.zeros(2, 3).copy_(x),
        lambda x: torch.zeros(3),
        lambda x: torch.tensor([x[0, 0], x[1, 0]]),
        lambda x: torch.randperm(3, generator=seeded()),
    ],
)
def test_what_comes_back_from_it(made: Callable[[Tensor], Tensor]) -> None:
    with emulated_device() as device:
        found = made(HERE.to(device))
        assert found.device.type == "cpu"
        assert found.numpy().shape == found.shape


def test_numbers_are_read_off_it() -> None:
    with emulated_device() as device:
        there = HERE.to(device)
        assert (there.tolist(), float(there.sum()), int(there.argmax()), len(there)) == (HERE.tolist(), 15.0, 5, 2)
        assert bool((there > 4).any())
        number = torch.zeros(2)
        number[1] = there.sum()
        assert number.tolist() == [0.0, 15.0]


# --- records


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_a_record_goes_there_and_back_with_all_its_fields_and_roles(shape: str) -> None:
    signals = synthetic_signals(shape, 9, cost=True)
    held = tensors(signals)
    assert len(held) > 40
    with emulated_device() as device:
        there = signals.to(device)
        assert {tensor.device for tensor in tensors(there)} == {device}
        assert there.device == there.take(torch.tensor([2, 0])).device == there.can_ask().device == device
        assert there.to(device) is there
        back = there.to("cpu")
    assert signals.device == back.device == torch.device("cpu")
    assert all(map(torch.equal, held, tensors(back)))
    assert len(tensors(back)) == len(held)
    assert (back.round, back.outside, len(back)) == (signals.round, signals.outside, 9)


def test_bytes_of_all_roles_are_counted() -> None:
    signals = Signals(
        probs=torch.rand(4, 2),
        embeddings=torch.rand(4, 3),
        scores={"egl": torch.rand(4)},
        labelled=Signals(embeddings=torch.rand(5, 3), gradients=(torch.rand(5, 1), torch.rand(5, 3), torch.arange(6))),
    )
    # probs 32, offsets 40, embeddings 48, a score 16; embeddings 60, factors 20 and 60, their offsets 48.
    assert signals.nbytes == 136 + 188


def test_a_record_without_tensors_is_on_the_cpu() -> None:
    assert Signals(count=3).device == torch.device("cpu")
    assert Signals(count=3).nbytes == 0


def test_fields_on_several_devices_are_refused_by_name() -> None:
    points = torch.rand(4, 3)
    with emulated_device() as device:
        with pytest.raises(SignalError, match="several devices: probs on cpu, embeddings on cuda:0"):
            Signals(probs=torch.rand(4, 2), embeddings=points.to(device))
        with pytest.raises(SignalError, match=r"embeddings on cuda:0, labelled\.embeddings on cpu"):
            Signals(embeddings=points.to(device), labelled=Signals(embeddings=points))


def test_a_pass_over_the_pool_leaves_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def points(model: Any, batch: list[Tensor], generator: torch.Generator) -> Signals:
        return Signals(embeddings=torch.stack(batch).to(DEVICE))

    monkeypatch.setitem(PROVIDERS, "embeddings", points)
    scorer: Any = SimpleNamespace(task=None, sharded=True, prepare=lambda examples: (examples, [[2], [0, 1]]))
    with emulated_device():
        found = collect(scorer, list(torch.eye(3)), {"embeddings"}, seeded())  # type: ignore[arg-type]
        assert found is not None
        assert found.device.type == "cpu"
    assert torch.equal(found.embeddings, torch.eye(3))


# --- strategies


@dataclass(frozen=True)
class CountsOnTheCpu(Margin):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        found = super().choose(signals, count, generator)
        assert found.scores is not None
        return replace(found, scores=found.scores - 0.0 * torch.arange(len(signals)))


@dataclass(frozen=True)
class StaysThere(Margin):
    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        found = super().select(signals, size, generator)
        return replace(found, indices=found.indices.to(signals.device))


@dataclass(frozen=True)
class OtherThere(Margin):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        found = super().choose(signals, count, generator)
        if signals.device.type == "cpu" or found.scores is None:
            return found
        return replace(found, indices=found.scores.argsort(stable=True)[:count])


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (CountsOnTheCpu, "raised RuntimeError: sub: expected all tensors"),
        (StaysThere, "what it chose is on cuda:0, not on the CPU"),
        (OtherThere, "it chose .* on the CPU, and .* on cuda:0"),
    ],
)
def test_the_harness_tells_what_only_works_on_the_cpu(broken: type[Strategy], says: str) -> None:
    with pytest.raises(AssertionError, match=f"{broken.__name__} breaks I10 on single signals: .*{says}"):
        check_strategy(broken, ("single",))


def assert_alike(strategy: Strategy, signals: Signals, size: int) -> None:
    here = strategy.select(signals, size, seeded())
    with emulated_device() as device:
        there = strategy.select(signals.to(device), size, seeded())
    assert there.indices.tolist() == here.indices.tolist()
    assert there.note == here.note


@pytest.mark.parametrize(
    "name", ["probcover", "facility_location", "bait", "density_weighted", "suggestive_annotation"]
)
def test_those_that_stand_for_a_large_pool_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(representatives, "DIRECT", 30)
    monkeypatch.setattr(representatives, "SAMPLE", 20)
    strategy = make_strategy(name)
    assert_alike(strategy, synthetic_signals("single", 40), 25)


def test_a_sample_of_clusters_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SAMPLE", 20)
    monkeypatch.setattr(typicality, "LARGEST", 5)
    for name in ("cluster_margin", "typiclust"):
        assert_alike(make_strategy(name), synthetic_signals("single", 60), 4)


@pytest.mark.parametrize("name", ["embedding_kmeans", "typiclust", "bert_km"])
def test_mini_batches_are_the_same(name: str) -> None:
    assert_alike(make_strategy(name), synthetic_signals("single", 90), 60)


@pytest.mark.parametrize("name", ["coreset", "badge", "margin", "layer_qbc"])
@pytest.mark.parametrize("undecided", [0, 3])
def test_shards_on_devices_choose_what_one_process_chooses_on_the_cpu(name: str, undecided: int) -> None:
    strategy = make_strategy(name)
    signals = synthetic_signals("single", undecided=undecided, labelled=4)

    def chosen(peers: Peers) -> Selection:
        with emulated_device() as device:
            return strategy.select(own_rows(signals, peers).to(device), 7, seeded())

    with blocks_of(5):
        alone = strategy.select(signals, 7, seeded())
        for found in with_peers(2, chosen):
            assert found.indices.tolist() == alone.indices.tolist()
            assert found.indices.device.type == "cpu"


def test_running_sums_that_a_draw_falls_into_are_made_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, seen = kmeanspp._interval, set()

    def noted(sums: Tensor, point: Tensor) -> int:
        seen.update({sums.device.type, point.device.type})
        return usual(sums, point)

    monkeypatch.setattr(kmeanspp, "_interval", noted)
    with emulated_device() as device:
        make_strategy("badge").select(SIGNALS.to(device), 7, seeded())
    assert seen == {"cpu"}


def test_processes_exchange_what_lies_in_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(parts: list[Tensor], own: Tensor, group: Any) -> None:
        assert own.device.type == "cpu"
        for part in parts:
            part.copy_(own)

    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    with emulated_device() as device:
        joined = _Launched(0, 2).join(HERE.to(device))
        assert joined.device == device
        assert joined.tolist() == [*HERE.tolist()] * 2


# --- where a batch is chosen

SIGNALS = synthetic_signals("single", 40)


class Choice:
    """Notes where the signals were, and draws."""

    def __init__(self, too_little: bool = False) -> None:
        self.seen: list[str] = []
        self.too_little = too_little

    def __call__(self, signals: Signals, draws: torch.Generator) -> Selection:
        self.seen.append(signals.device.type)
        drawn = torch.randperm(40, generator=draws)
        if self.too_little and signals.device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Selection(drawn)


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """This process has the emulated GPU, with so many bytes that are free."""

    def give(free: int) -> None:
        monkeypatch.setattr(placing, "processes", lambda: SimpleNamespace(device=DEVICE))
        monkeypatch.setattr(placing, "free_memory", lambda: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))

    return give


def test_a_batch_is_chosen_on_the_gpu_where_it_fits(with_gpu: Callable[[int], None]) -> None:
    for free, where in ((ROOM * SIGNALS.nbytes, "cuda"), (ROOM * SIGNALS.nbytes - 1, "cpu")):
        with_gpu(free)
        choice, draws = Choice(), seeded()
        with emulated_device():
            placed(lambda near, choice=choice, draws=draws: choice(near, draws), SIGNALS, draws)
        assert choice.seen == [where]


def test_without_a_gpu_signals_stay_as_they_are() -> None:
    seen: list[Signals] = []

    def choose(signals: Signals) -> Selection:
        seen.append(signals)
        return Selection(torch.arange(2))

    placed(choose, SIGNALS, seeded())
    assert seen[0] is SIGNALS


def test_too_little_memory_after_all_gives_what_the_cpu_gives(with_gpu: Callable[[int], None]) -> None:
    with_gpu(2**40)
    choice, draws = Choice(too_little=True), seeded()
    with emulated_device():
        found = placed(lambda near: choice(near, draws), SIGNALS, draws)
    assert choice.seen == ["cuda", "cpu"]
    assert found.indices.tolist() == torch.randperm(40, generator=seeded()).tolist()


def test_too_little_memory_among_several_processes_is_told(with_gpu: Callable[[int], None]) -> None:
    with_gpu(2**40)
    shard = own_rows(SIGNALS, with_peers(1, lambda peers: peers)[0])
    choice, draws = Choice(too_little=True), seeded()
    with emulated_device(), pytest.raises(torch.OutOfMemoryError):
        placed(lambda near: choice(near, draws), shard, draws)
    assert choice.seen == ["cuda"]


def test_every_stage_chooses_there_and_the_batch_is_the_same(
    with_gpu: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = [
        Stage("power", keep=20, parameters={"base": "entropy"}),
        Stage("subpool", parameters={"base": "badge", "ratio": 3.0}),
    ]
    here = choose_batch(view(Model(), labelled=(3, 5)), stages, 4, 0.0, lambda _: seeded())
    with_gpu(2**40)
    seen: list[str] = []
    usual = Signals.require

    def noted(self: Signals, *needs: Any) -> None:
        seen.append(self.device.type)
        usual(self, *needs)

    monkeypatch.setattr(Signals, "require", noted)
    with emulated_device():
        there = choose_batch(view(Model(), labelled=(3, 5)), stages, 4, 0.0, lambda _: seeded())
    assert here is not None
    assert there is not None
    assert seen == ["cuda"] * 3  # the first stage, the sieve, what is behind it
    assert there.chosen.indices.tolist() == here.chosen.indices.tolist()
    assert there.seen.device.type == "cpu"


def test_sums_have_one_order_while_it_chooses() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with repeatable():
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled()
            assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
