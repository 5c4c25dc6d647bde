"""Several workers, and several services: each service has one Triton, whichever of its workers dies."""

import asyncio
from pathlib import Path

import httpx
import psutil

from bento_trtllm.triton.wire.probe import GRPC_ENVIRONMENT
from tests.support.asking import LONG, read_events, stream_events, timeout
from tests.support.demo import ANSWERS, PROMPT
from tests.support.processes import left_over, owner, traces, triton_id, workers
from tests.support.serving import SSE, Service, serve


def talking(service: Service) -> set[int]:
    """The workers that have a client."""
    here = int(service.url.rpartition(":")[2])

    def talks(pid: int) -> bool:
        connections = psutil.Process(pid).net_connections("tcp")
        return any(c.status == psutil.CONN_ESTABLISHED and c.laddr.port == here for c in connections)

    return {pid for pid in workers(service) if talks(pid)}


class Streams:
    """Long streams, and how each of them ended."""

    def __init__(self, service: Service, client: httpx.AsyncClient) -> None:
        self._service = service
        self._client = client
        self._begun = 0
        self.tasks: list[asyncio.Task[str]] = []

    async def _run(self) -> str:
        async with self._client.stream("POST", "/generate", json=LONG, headers=SSE) as response:
            if response.status_code == 503:
                return "refused"
            lines = response.aiter_lines()
            last = await anext(lines)
            self._begun += 1
            try:
                async for line in lines:
                    last = line or last
            except httpx.TransportError:
                return "broken off"
        return "failed" if "engine_unavailable" in last else last

    async def open(self) -> None:
        """One more; returns when it has begun."""
        before = self._begun
        self.tasks.append(asyncio.create_task(self._run()))
        async with timeout(60):
            while self._begun == before:
                await asyncio.sleep(0.01)

    async def on_every_worker(self) -> None:
        """Open streams until each worker has one, and all have begun."""
        async with timeout(60):
            while talking(self._service) != workers(self._service) or self._begun < len(self.tasks):
                if self._begun == len(self.tasks):
                    self.tasks.append(asyncio.create_task(self._run()))
                await asyncio.sleep(0.02)
                # A worker may learn a moment later than another that Triton is ready.
                self.tasks = [task for task in self.tasks if not (task.done() and task.result() == "refused")]

    async def ends(self) -> set[str]:
        return set(await asyncio.wait_for(asyncio.gather(*self.tasks), 60))


def test_workers_have_what_grpc_is_told(service: Service) -> None:
    told = {variable["name"]: variable["value"] for variable in GRPC_ENVIRONMENT}
    pids = workers(service)
    assert pids
    for pid in pids:
        assert told.items() <= psutil.Process(pid).environ().items()


async def test_another_worker_takes_over_from_a_killed_owner(home: Path, slow_model: str, tmp_path: Path) -> None:
    options = ("--arg", f"model={slow_model}", "--arg", "workers=2")
    (temporary := tmp_path / "tmp").mkdir()
    with serve(home, tmp_path / "log.txt", *options, TMPDIR=str(temporary), TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        before = owner(service)
        tritons = [triton_id(service)]
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            streams = Streams(service, client)
            await streams.on_every_worker()
            before.kill()
            assert await streams.ends() == {"broken off", "failed"}
            async with timeout(60):
                while len(workers(service)) < 2 or not service.tritons():
                    await asyncio.sleep(0.02)
        service.wait_ready()
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            await Streams(service, client).on_every_worker()
        assert before.pid not in workers(service)
        assert owner(service).pid in workers(service)
        tritons.append(triton_id(service))
        assert service.stop() == 0
    assert left_over(str(tmp_path)) == []
    left = {trace for triton in tritons for trace in traces(temporary, triton)}
    # BentoML's client of the service itself, in the worker that could not tidy up.
    assert {name for name in left if "bentoml-client-" not in name} == set()
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


async def test_slots_are_the_services_whichever_worker_has_the_connections(
    home: Path, slow_model: str, tmp_path: Path
) -> None:
    """One worker may have them all; those of one that is killed are free for the other's line at once."""
    options = ("--arg", f"model={slow_model}", "--arg", "workers=2", "--arg", "max_running_requests=3")
    with serve(home, tmp_path / "log.txt", *options) as service:
        service.wait_ready()
        owning = owner(service)
        (other,) = (psutil.Process(pid) for pid in workers(service) - {owning.pid})
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            streams = Streams(service, client)
            owning.suspend()  # so that the other takes all connections
            try:
                for _ in range(3):
                    await streams.open()
                assert talking(service) == {other.pid}
            finally:
                owning.resume()
            other.suspend()
            waiting = Streams(service, client)
            begun = asyncio.create_task(waiting.open())
            await asyncio.sleep(1)
            assert not begun.done()
            other.kill()
            await asyncio.wait_for(begun, 60)
            assert await streams.ends() == {"broken off"}
            for task in waiting.tasks:
                task.cancel()


def test_two_services_never_meet(service: Service, home: Path, tmp_path: Path) -> None:
    def answers(each: Service) -> bool:
        return read_events(stream_events(each, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]

    with serve(home, tmp_path / "log.txt") as other:
        other.wait_ready()
        assert triton_id(service) != triton_id(other)
        assert service.grpc_address() != other.grpc_address()
        assert answers(other)
        assert answers(service)
        (triton,) = service.tritons()
        assert other.stop() == 0
    assert answers(service)
    assert service.tritons() == [triton]
