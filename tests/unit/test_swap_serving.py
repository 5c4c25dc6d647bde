"""The steps of a swap in one worker, on models that only say what is done with them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from bento_trtllm.config import Settings
from bento_trtllm.engines.pytorch.runtime import PyTorchRuntime
from bento_trtllm.errors import CheckpointError, EngineError
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.client import Client
from bento_trtllm.generation.errors import EngineUnavailable, QueueFull
from bento_trtllm.generation.slots import OwnSlots
from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Ledger
from bento_trtllm.manifest import Manifest
from bento_trtllm.swap import seat as seats
from bento_trtllm.swap import serving as module
from bento_trtllm.swap.orders import ALONE, Orders, Pack, Progress, Stage, Wanted
from bento_trtllm.swap.seat import Seat
from bento_trtllm.swap.serving import Serving
from bento_trtllm.triton.process.run_folder import RunFolder
from tests.support.asking import timeout
from tests.support.limits import LIMIT_S

OLD, NEW = Path("/models/llama/old"), Path("/models/llama/new")
ADAPTERS: dict[Path, dict[str, object]] = {}
ENGINES: dict[Path, str] = {}
FAULTS: dict[str, str] = {}
"""What goes wrong with NEW: `read`, `proof`, `start`, `prove`, or `room`; `beside`: it starts only alone."""


class Launched(asyncio.Event):
    def __init__(self, done: list[str]) -> None:
        super().__init__()
        self.done = done

    async def wait(self) -> Literal[True]:
        self.done.append("launched")
        return True


class Triton:
    """Ready as soon as it is started, unless it is broken."""

    def __init__(self, model: "Model") -> None:
        self.model = model
        self.status = SimpleNamespace(state="starting", failures=0, reason="")
        self.owner = True
        self.used = False
        self.launched = Launched(model.done)

    def use(self) -> None:
        self.used = True

    def resign(self) -> None:
        self.used = False

    def is_used(self) -> bool:
        return self.used or bool(self.model.visitors)

    def is_gone(self) -> bool:
        return self.model.ended

    async def wait_ready(self, timeout_s: float) -> None:
        self.model.done.append("waited for")

    async def stop(self) -> None:
        self.model.ended = True


class Model:
    """An llm.LLM to the eye of Serving."""

    all: list["Model"] = []  # noqa: RUF012

    def __init__(self, path: Path, settings: object, telemetry: object, beside: Sequence[str]) -> None:
        self.path = path
        self.beside = beside
        self.name, self.tag = path.parent.name, f"{path.parent.name}:{path.name}"
        self.variants = ADAPTERS.get(path, {})
        self.names = [self.name, *self.variants]
        self.manifest = SimpleNamespace(seal=path.name, engine=ENGINES.get(path, "openvino"))
        self.draining = False
        self.admission = SimpleNamespace(drain=self.drain)
        self.done: list[str] = []
        self.triton = Triton(self)
        self.visitors = 0
        self.started = self.ended = False
        self.leaving = ""
        Model.all.append(self)

    def drain(self) -> None:
        self.draining = True

    def _fault(self, kind: str) -> str:
        return FAULTS.get(kind, "") if self.path == NEW else ""

    def read(self) -> None:
        self.done.append("read")
        if reason := self._fault("read"):
            raise CheckpointError(reason)

    def check_proof(self) -> None:
        if reason := self._fault("proof"):
            raise EngineError(reason)

    def check_memory(self) -> None:
        if reason := self._fault("room"):
            raise EngineError(reason)

    async def start(self) -> None:
        self.done.append("started")
        others = any(each.started and not each.ended for each in Model.all if each is not self)
        self.started = True
        if reason := self._fault("start") or (others and self._fault("beside")):
            self.triton.status = SimpleNamespace(state="restarting", failures=1, reason=reason)
        else:
            self.triton.status = SimpleNamespace(state="ready", failures=0, reason="")

    async def stop(self) -> None:
        self.ended = True

    async def prove(self) -> None:
        if reason := self._fault("prove"):
            raise EngineUnavailable(reason)

    def is_idle(self) -> bool:
        return True

    def not_ready(self) -> str | None:
        return self.leaving or (None if self.triton.status.state == "ready" else "not ready")


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "LLM", Model)
    monkeypatch.setattr(module, "Telemetry", lambda *_, **__: None)
    monkeypatch.setattr(module, "Drain", lambda *_: SimpleNamespace(listen=lambda: None))
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    monkeypatch.setattr(module, "STEP_S", 0.001)
    monkeypatch.setattr(seats, "STEP_S", 0.001)
    monkeypatch.setattr(RunFolder, "of_this_service", classmethod(lambda cls, key: cls(tmp_path / "run")))
    FAULTS.clear()
    ADAPTERS.clear()
    ENGINES.clear()
    Model.all.clear()


@asynccontextmanager
async def worker(**settings: Any) -> AsyncIterator[tuple[Seat, Orders]]:
    given = Settings(**settings)
    serving = Serving([OLD], given, Keyring([], given.keys_file), Ledger(given.workers))
    await serving.launch()
    await serving.start()
    (seat,) = serving._seats
    try:
        yield seat, seat._orders
        assert serving.models == (seat.model,)
    finally:
        await serving.stop()


async def until_stage(orders: Orders, *stages: str) -> Progress:
    async with timeout(60):
        while not (progress := orders.read(Progress)) or progress.stage not in stages:
            await asyncio.sleep(0.001)
    return progress


def ask(orders: Orders, serial: int = 1, path: Path = NEW) -> None:
    orders.folder.mkdir(exist_ok=True)
    orders.write(Wanted(str(path), path.name, serial))


async def test_triton_loads_while_the_tokenizer_is_read() -> None:
    async with worker():
        assert Model.all[0].done == ["started", "launched", "read", "waited for"]


async def test_a_triton_whose_tokenizer_cannot_be_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "_fault", lambda self, kind: "it is damaged" if kind == "read" else "")
    with pytest.raises(CheckpointError, match="it is damaged"):
        async with worker():
            pass
    assert [(model.done[0], model.ended) for model in Model.all] == [("started", True)]


async def test_the_old_model_ends_after_its_last_request() -> None:
    async with worker() as (seat, orders):
        old = seat.model
        async with seat.visit(patient=True) as model:
            assert model is old
            ask(orders)
            await until_stage(orders, "moving")
            while seat.model is old:
                await asyncio.sleep(0.001)
            async with seat.visit(patient=True) as newer:
                assert newer.path == NEW
            await asyncio.sleep(0.02)
            assert not Model.all[0].ended
        await until_stage(orders, "done")
        assert [(each.path, each.ended) for each in Model.all] == [(OLD, True), (NEW, False)]
        assert orders.read(Pack) == Pack(str(NEW), "new")


@pytest.mark.parametrize("fault", ["read", "proof", "start", "prove"])
async def test_a_model_that_fails_is_dropped(fault: str) -> None:
    FAULTS[fault] = "it broke"
    async with worker() as (seat, orders):
        ask(orders)
        assert "it broke" in (await until_stage(orders, "failed", "done")).reason
        while Model.all[-1].started and not Model.all[-1].ended:
            await asyncio.sleep(0.001)
        assert (seat.model.path, seat.model.not_ready(), orders.read(Pack)) == (OLD, None, None)
        FAULTS.clear()
        ask(orders, 2)
        while (await until_stage(orders, "done", "failed")).serial != 2:
            await asyncio.sleep(0.001)
        assert seat.model.path == NEW


@asynccontextmanager
async def paused(seat: Seat, orders: Orders) -> AsyncIterator[asyncio.Task[Path]]:
    """A swap that waits for the end of the block, since both do not fit; and a request that waits for the swap."""
    async with seat.visit(patient=True):
        ask(orders)
        await until_stage(orders, "pausing")
        while not seat.model.not_ready():
            await asyncio.sleep(0.001)
        yield asyncio.create_task(_path(seat))


@pytest.mark.parametrize("settings", [{}, {"grpc_port": 8001}], ids=["memory", "port"])
async def test_requests_wait_where_both_do_not_fit(settings: dict[str, Any]) -> None:
    if not settings:
        FAULTS["room"] = "no room"
    async with worker(**settings) as (seat, orders):
        async with paused(seat, orders) as waiting:
            await asyncio.sleep(0.02)
            assert (waiting.done(), Model.all[0].ended) == (False, False)
            async with seat.visit(patient=False) as model:  # a probe does not wait
                assert "taking this model's place" in str(model.not_ready())
        assert await waiting == NEW
        await until_stage(orders, "done")


async def test_nobody_waits_for_a_pack_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where both do not fit: the old engine ends only for one that has proved itself."""
    FAULTS.update(room="no room", proof="log probabilities are off")
    stages: list[str] = []
    tell = Seat._tell

    def told(self: Seat, wanted: Wanted, stage: Any, reason: str = "") -> None:
        stages.append(stage)
        tell(self, wanted, stage, reason)

    monkeypatch.setattr(Seat, "_tell", told)
    async with worker() as (seat, orders):
        ask(orders)
        assert "are off" in (await until_stage(orders, "failed", "done")).reason
        assert (stages, seat.model.path, seat.model.leaving) == (["failed"], OLD, "")
        assert [(each.path, each.started, each.ended) for each in Model.all][:1] == [(OLD, True, False)]


async def test_after_a_pause_that_was_for_nothing_the_old_model_is_started_anew() -> None:
    FAULTS.update(room="no room", start="it broke")
    async with worker() as (seat, orders):
        ask(orders)
        assert (await until_stage(orders, "failed", "done")).reason == "it broke"
        assert await _path(seat) == OLD
        assert [(each.path, each.ended) for each in Model.all] == [(OLD, True), (NEW, True), (OLD, False)]


async def test_a_worker_that_comes_as_a_pause_ends_serves_the_new_model(tmp_path: Path) -> None:
    """The leader that wrote down what is served has died before it wrote how far the swap is."""
    orders = Orders.of(tmp_path / "run", "")
    ask(orders)
    orders.write(Progress(1, "loading", ALONE))
    orders.write(Pack(str(NEW), NEW.name))
    async with worker() as (seat, _):
        await until_stage(orders, "done")
        assert (await _path(seat), seat.model.not_ready()) == (NEW, None)


async def test_a_swap_that_ends_as_a_worker_starts_is_heeded(tmp_path: Path) -> None:
    orders = Orders.of(tmp_path / "run", "")
    orders.folder.mkdir()
    given = Settings()
    serving = Serving([OLD], given, Keyring([], given.keys_file), Ledger(given.workers))
    orders.write(Pack(str(NEW), NEW.name))
    await serving.launch()
    await serving.start()
    assert [(each.path, each.started) for each in Model.all] == [(OLD, False), (NEW, True)]
    await serving.stop()


@pytest.mark.parametrize(("stage", "reason"), [("pausing", "no room"), ("loading", ALONE)])
async def test_a_worker_that_comes_in_a_pause_does_not_start_the_old_model(
    tmp_path: Path, stage: Stage, reason: str
) -> None:
    orders = Orders.of(tmp_path / "run", "")
    ask(orders)
    orders.write(Progress(1, stage, reason))
    async with worker() as (seat, _):
        assert await _path(seat) == NEW
        await until_stage(orders, "done")
        assert [(each.path, each.started) for each in Model.all] == [(OLD, False), (NEW, True)]
        assert "waited for" not in Model.all[0].done  # or nobody would be answered meanwhile


async def test_a_worker_that_comes_in_a_pause_starts_the_old_model_if_the_new_one_fails(tmp_path: Path) -> None:
    FAULTS["start"] = "it broke"
    orders = Orders.of(tmp_path / "run", "")
    ask(orders)
    orders.write(Progress(1, "loading", ALONE))
    async with worker() as (seat, _):
        assert (await until_stage(orders, "failed", "done")).reason == "it broke"
        assert await _path(seat) == OLD


def on_gpus(monkeypatch: pytest.MonkeyPatch, fault: str = "") -> None:
    """Have both on a machine with GPUs, or with such a fault."""

    def check_machine(self: object) -> None:
        if fault:
            raise EngineError(fault)

    ENGINES.update({OLD: "pytorch", NEW: "pytorch"})
    monkeypatch.setattr(PyTorchRuntime, "check_machine", check_machine)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the service's log says of the swap's stages."""
    return [text.removeprefix("swap to llama:new: ") for text in caplog.messages if text.startswith("swap to")]


DOES_NOT_FIT = "pausing (on the GPU the new engine did not start beside the old one: out of memory)"


async def test_on_a_gpu_what_does_not_start_beside_the_old_model_is_tried_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bento_trtllm")
    on_gpus(monkeypatch)
    FAULTS["beside"] = "out of memory."
    async with worker() as (seat, orders):
        async with paused(seat, orders) as waiting:
            await asyncio.sleep(0.02)
            assert (waiting.done(), [each.ended for each in Model.all]) == (False, [False, True])
        assert await waiting == NEW
        await until_stage(orders, "done", "failed")
        assert logged(caplog) == ["loading", DOES_NOT_FIT, "loading (the old engine has ended)", "moving", "done"]
        assert [(each.path, each.ended) for each in Model.all] == [(OLD, True), (NEW, True), (NEW, False)]


async def test_nobody_waits_before_every_worker_has_left_what_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpus(monkeypatch)
    FAULTS["beside"] = "out of memory"
    held = [True]
    monkeypatch.setattr(Triton, "is_gone", lambda self: self.model.ended and not (held and self.model.path == NEW))
    async with worker() as (seat, orders):
        ask(orders)
        await until_stage(orders, "pausing")
        while not Model.all[-1].ended:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        async with timeout(LIMIT_S):
            assert (await _path(seat), seat.model.not_ready()) == (OLD, None)
        held.clear()
        await until_stage(orders, "done")
        assert seat.model.path == NEW


async def test_on_a_gpu_what_does_not_start_alone_either_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bento_trtllm")
    on_gpus(monkeypatch)
    FAULTS["start"] = "out of memory"
    async with worker() as (seat, orders):
        ask(orders)
        assert (await until_stage(orders, "failed", "done")).reason == "out of memory"
        assert await _path(seat) == OLD
        stages = ["loading", DOES_NOT_FIT, "loading (the old engine has ended)", "failed (out of memory)"]
        assert logged(caplog) == stages
        assert [(each.path, each.ended) for each in Model.all] == [(OLD, True), (NEW, True), (NEW, True), (OLD, False)]


async def test_a_leader_in_anothers_place_pauses_no_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpus(monkeypatch)
    FAULTS["start"] = "out of memory"
    async with worker() as (_, orders):
        orders.write(Progress(1, "loading", ALONE))
        ask(orders)
        await until_stage(orders, "failed", "pausing")
        assert orders.read(Progress) == Progress(1, "failed", "out of memory")


@pytest.mark.parametrize(("engine", "fault"), [("openvino", ""), ("pytorch", "there is no GPU")])
async def test_there_is_no_pause_for_what_no_room_mends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, engine: str, fault: str
) -> None:
    """An old engine that is not on a GPU, and a new one that cannot run on this machine."""
    caplog.set_level("INFO", "bento_trtllm")
    on_gpus(monkeypatch, fault)
    ENGINES[OLD] = engine
    FAULTS["start"] = "it broke"
    async with worker() as (seat, orders):
        ask(orders)
        assert (await until_stage(orders, "failed", "pausing")).reason == "it broke"
        assert logged(caplog) == ["loading", "failed (it broke)"]
        assert (seat.model.path, seat.model.leaving, Model.all[0].ended) == (OLD, "", False)


@pytest.mark.parametrize("ends", ["ready", "failed"])
async def test_who_waits_in_such_a_pause_waits_for_the_old_model_as_well(
    monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    FAULTS.update(room="no room", start="it broke")
    loading = [True]
    not_ready = Model.not_ready
    monkeypatch.setattr(
        Model, "not_ready", lambda self: "loading" if loading and self in Model.all[2:] else not_ready(self)
    )
    async with worker() as (seat, orders):
        ask(orders)
        await until_stage(orders, "failed", "done")
        while len(Model.all) < 3:
            await asyncio.sleep(0.001)
        waiting = asyncio.create_task(_path(seat))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        if ends == "ready":
            loading.clear()
        else:
            Model.all[2].triton.status.failures = 1
        assert await waiting == OLD
        assert len(Model.all) == 3


async def test_another_worker_goes_on_where_the_leader_died(tmp_path: Path) -> None:
    leader = RunFolder(tmp_path / "run")
    leader.join()
    assert leader.take()
    async with worker() as (seat, orders):
        ask(orders)
        orders.write(Progress(1, "loading"))
        while len(Model.all) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert (orders.read(Progress), seat.model.path) == (Progress(1, "loading"), OLD)
        leader.leave()
        await until_stage(orders, "done")
        assert seat.model.path == NEW


async def test_a_worker_in_anothers_place_begins_with_what_is_served(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    Orders(tmp_path / "run").write(Pack(str(NEW), "new"))
    async with worker() as (seat, _):
        assert [each.path for each in Model.all] == [NEW]
        assert seat.model.path == NEW


async def test_a_service_that_stops_takes_no_other_model() -> None:
    async with worker() as (seat, orders):
        seat.drain()
        ask(orders)
        assert await until_stage(orders, "failed", "loading") == Progress(1, "failed", "the service is stopping")
        assert [(each.path, each.draining) for each in Model.all] == [(OLD, True)]


async def test_a_swap_that_has_begun_ends_with_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS["room"] = "no room"
    async with worker() as (seat, orders):
        async with paused(seat, orders) as waiting:
            await asyncio.sleep(0)
            seat.drain()
            async with timeout(60):
                assert await waiting == OLD  # which refuses it, since it drains
            assert (await until_stage(orders, "failed", "loading")).reason == "the service is stopping"
        assert {(each.path, each.draining, each.started) for each in Model.all} == {
            (OLD, True, True),
            (NEW, True, False),
        }


async def test_a_model_that_is_opened_while_the_service_stops_drains_as_well() -> None:
    async with worker() as (seat, orders):
        ask(orders)
        await until_stage(orders, "done")
        seat.drain()
        seat._make(Pack(str(OLD), "old"))
        assert [(each.path, each.draining) for each in Model.all] == [(OLD, False), (NEW, True), (OLD, True)]


async def _path(seat: Seat) -> Path:
    async with seat.visit(patient=True) as model:
        return Path(model.path)


OTHER = Path("/models/other/old")


@pytest.fixture
async def two(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    """A worker with two models."""
    monkeypatch.setattr(Manifest, "read", lambda path: SimpleNamespace(engine=ENGINES.get(path, "openvino")))
    serving = Serving([OLD, OTHER], Settings(models="llama:old,other:old"), Keyring([]), Ledger(1))
    await serving.launch()
    await serving.start()
    yield serving
    await serving.stop()


async def test_one_of_several_is_swapped_and_the_others_requests_do_not_wait(two: Serving) -> None:
    FAULTS["room"] = "no room"
    orders = two._seats[0]._orders
    assert [seat._orders.folder.name for seat in two._seats] == ["llama", "other"]
    async with two.visit("llama", patient=True):
        orders.folder.mkdir(parents=True, exist_ok=True)
        orders.write(Wanted(str(NEW), NEW.name, 1))
        await until_stage(orders, "pausing")
        while "taking this model's place" not in str(two.not_ready()):
            await asyncio.sleep(0.001)
        async with timeout(LIMIT_S), two.visit("other", patient=True) as model:
            assert (model.path, model.not_ready()) == (OTHER, None)
    await until_stage(orders, "done")
    assert [model.path for model in two.models] == [NEW, OTHER]
    assert [(each.path, each.ended) for each in Model.all] == [(OLD, True), (OTHER, False), (NEW, False)]


async def test_a_model_knows_the_engines_that_are_beside_it_now(two: Serving) -> None:
    """Settings are for any of them: after a swap to another engine, in a worker that comes later, too."""
    ENGINES[NEW] = "pytorch"
    later = OTHER.with_name("new")
    for number, pack in enumerate((NEW, later)):
        orders = two._seats[number]._orders
        orders.folder.mkdir(parents=True, exist_ok=True)
        orders.write(Wanted(str(pack), pack.name, 1))
        assert (await until_stage(orders, "failed", "done")).stage == "done"
    assert [(each.path, each.beside) for each in Model.all] == [
        (OLD, ["openvino"]), (OTHER, ["openvino"]), (NEW, ["openvino"]), (later, ["pytorch"]),
    ]  # fmt: skip
    Serving([OLD, OTHER], Settings(models="llama:old,other:old"), Keyring([]), Ledger(1))
    assert [(each.path, each.beside) for each in Model.all[4:]] == [(NEW, ["openvino"]), (later, ["pytorch"])]


async def test_a_pack_whose_adapter_has_the_name_of_another_model_is_not_swapped_in(two: Serving) -> None:
    ADAPTERS[NEW] = {"other": object()}
    orders = two._seats[0]._orders
    orders.folder.mkdir(parents=True, exist_ok=True)
    orders.write(Wanted(str(NEW), NEW.name, 1))
    assert "requests would call two of the models other" in (await until_stage(orders, "failed", "done")).reason
    assert [model.path for model in two.models] == [OLD, OTHER]


async def test_the_service_turns_nobody_away_whose_model_may_have_room(
    two: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And books the time that it tells those who are refused in one line, not in each."""
    refused: list[str] = []
    two._telemetry = SimpleNamespace(refused=refused.append)  # type: ignore[assignment]
    lines = [Admission(OwnSlots(1), 0), Admission(OwnSlots(1), 0)]
    for model, line in zip(two.models, lines, strict=True):
        model.admission = line
    async with lines[0].slot(1):
        two.check_room(Client(""))
        async with lines[1].slot(1):
            with pytest.raises(QueueFull, match="busy with 1 request"):
                two.check_room(Client(""))
    assert refused == [QueueFull.kind]
    assert [len(line._returns) for line in lines] == [1, 0]
