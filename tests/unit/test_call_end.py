"""How a call to Triton ends: by Triton after its last response, and by a cancellation before that."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor

from bento_trtllm.generation.deadlines import Deadlines, Watch
from bento_trtllm.generation.errors import EngineTimeout, GenerationError
from bento_trtllm.generation.leaving import LEAVING, Leaving
from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.triton.wire import token_stream
from bento_trtllm.triton.wire.client import TritonClient
from bento_trtllm.triton.wire.probe import Health
from bento_trtllm.triton.wire.token_stream import Inbox
from bento_trtllm.triton_models.shared.parameters import STOP_IDS
from tests.support.limits import LIMIT_S

DEADLINES = Deadlines(LIMIT_S, LIMIT_S, LIMIT_S)


def response(final: bool = False, error: str = "") -> pb.ModelStreamInferResponse:
    reply = pb.ModelStreamInferResponse(error_message=error)
    reply.infer_response.raw_output_contents.append(b"\7\0\0\0")
    reply.infer_response.parameters["triton_final_response"].bool_param = final
    return reply


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # which has no types
    """It sends its responses, and ends the call when it is let, as by a request that stops others."""

    def __init__(self, *responses: pb.ModelStreamInferResponse, deaf: bool = False) -> None:
        self._responses = responses
        self._deaf = deaf
        self.calls: list[str] = []
        self.ids: list[str] = []
        """Of the requests that came, and, in turn, of those that were to end."""
        self.stopped: list[list[str]] = []
        self.let = asyncio.Event()
        self.ended = asyncio.Event()

    async def ModelStreamInfer(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        request = await anext(requests)
        if request.inputs[-1].name == STOP_IDS:
            self.stopped.append([raw.decode() for raw in deserialize_bytes_tensor(request.raw_input_contents[-1])])
            if not self._deaf:
                self.let.set()
            return
        self.ids.append(request.id)
        try:
            for each in self._responses:
                yield each
            await self.let.wait()
            self.calls.append("ended")
        except (asyncio.CancelledError, GeneratorExit):  # as it waits, or as it sends
            self.calls.append("cancelled")
            raise
        finally:
            self.ended.set()

    @asynccontextmanager
    async def at(self) -> AsyncIterator[str]:
        server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


async def leave_together(client: TritonClient, count: int) -> None:
    """So many read a batch each, and leave in the same turn of the event loop."""
    leaving = Leaving()
    LEAVING.set(leaving)
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await anext(await stack.enter_async_context(client.stream(TokenRequest([1], 1), DEADLINES)))
        leaving.tell()
        leaving.tell()


async def ended(server: Triton, calls: int) -> None:
    while len(server.calls) < calls:
        await asyncio.sleep(0.001)


async def left(client: TritonClient, read: int | None = None) -> bool:
    """Read so many batches, or all, and leave. Whether the answer failed."""
    try:
        async with client.stream(TokenRequest([1], 1), DEADLINES) as batches:
            async for _ in batches:
                if read is not None and not (read := read - 1):
                    break
    except GenerationError:
        return True
    return False


async def quiet(server: Triton) -> bool:
    """Whether the call is still open a moment later; where it was cancelled, Triton hears it in a millisecond."""
    await asyncio.wait({asyncio.ensure_future(server.ended.wait())}, timeout=0.1)
    return not server.ended.is_set()


@pytest.mark.parametrize("last", [response(final=True), response(error="[failed] No.")], ids=["answer", "error"])
async def test_a_call_that_had_its_last_response_is_left_to_triton(last: pb.ModelStreamInferResponse) -> None:
    triton = Triton(response(), last)
    async with triton.at() as address:
        client = TritonClient(address)
        assert await left(client) is bool(last.error_message)
        assert await quiet(triton)
        triton.let.set()
        await asyncio.wait_for(triton.ended.wait(), LIMIT_S)
        await client.close()
    assert triton.calls == ["ended"]


async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_stream, "END_LIMIT_S", 0.01)
    triton = Triton(response(final=True))
    async with triton.at() as address:
        client = TritonClient(address)
        assert not await left(client)
        await asyncio.wait_for(triton.ended.wait(), LIMIT_S)
        await client.close()
    assert triton.calls == ["cancelled"]


async def test_a_call_that_is_left_before_is_cancelled_at_once() -> None:
    triton = Triton(response())
    async with triton.at() as address:
        client = TritonClient(address)
        assert not await left(client, read=1)
        await asyncio.wait_for(triton.ended.wait(), LIMIT_S)
        await client.close()
    assert triton.calls == ["cancelled"]


async def test_calls_that_are_left_are_ended_by_their_ids_where_the_engine_does_that() -> None:
    """In one message, and once."""
    triton = Triton(response())
    async with triton.at() as address:
        client = TritonClient(address, stops=True)
        await leave_together(client, 3)
        await asyncio.wait_for(ended(triton, 3), LIMIT_S)
        await client.close()
    (stopped,) = triton.stopped
    assert sorted(stopped) == sorted(set(triton.ids))
    assert triton.calls == ["ended"] * 3


async def test_so_is_one_that_takes_too_long_and_says_why() -> None:
    triton = Triton(response())
    async with triton.at() as address:
        client = TritonClient(address, stops=True)
        with pytest.raises(EngineTimeout, match=r"no further token within 0\.01 s"):
            async with client.stream(TokenRequest([1], 1), Deadlines(LIMIT_S, 0.01, LIMIT_S)) as batches:
                async for _ in batches:
                    pass
        await asyncio.wait_for(ended(triton, 1), LIMIT_S)
        await client.close()
    assert triton.stopped == [triton.ids]
    assert triton.calls == ["ended"]


def calls_in_memory() -> list[Inbox | Watch]:
    return [each for each in gc.get_objects() if isinstance(each, (Inbox, Watch))]


@pytest.mark.parametrize("read", [None, 1], ids=["whole", "left"])
@pytest.mark.parametrize("stops", [False, True], ids=["cancelled", "stopped"])
async def test_what_is_over_does_not_wait_for_the_garbage_collector(read: int | None, stops: bool) -> None:
    """It comes rarely where there are many clients, and an answer's tokens would be kept until then."""
    triton = Triton(response(), response(final=True)) if read is None else Triton(response())
    others = {id(each): each for each in calls_in_memory()}  # of other tests, which stay for as long as this has them
    gc.disable()
    try:
        async with triton.at() as address:
            client = TritonClient(address, stops=stops)
            assert not await left(client, read)
            triton.let.set()
            await asyncio.wait_for(triton.ended.wait(), LIMIT_S)
            await client.close()
            await asyncio.sleep(0.05)
        assert [each for each in calls_in_memory() if id(each) not in others] == []
    finally:
        gc.enable()


async def test_one_that_the_engine_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_stream, "END_LIMIT_S", 0.01)
    triton = Triton(response(), deaf=True)
    async with triton.at() as address:
        client = TritonClient(address, stops=True)
        assert not await left(client, read=1)
        await asyncio.wait_for(triton.ended.wait(), LIMIT_S)
        await client.close()
    assert triton.stopped == [triton.ids]
    assert triton.calls == ["cancelled"]


async def test_a_channel_that_is_closed_has_ended_them_all() -> None:
    triton = Triton(response())
    async with triton.at() as address:
        client = TritonClient(address, stops=True)
        async with client.stream(TokenRequest([1], 1), DEADLINES) as batches:
            await anext(batches)
            await client.close()
        await asyncio.wait_for(triton.ended.wait(), LIMIT_S)
        await asyncio.sleep(0)
    assert triton.calls == ["cancelled"]
    assert not triton.stopped


async def test_who_has_left_is_cancelled_before_it_ends_and_sees_no_error() -> None:
    """Whoever reads for a client that has left is cancelled a moment later."""
    triton, leaving = Triton(response()), Leaving()
    async with triton.at() as address:
        client = TritonClient(address)
        LEAVING.set(leaving)
        async with client.stream(TokenRequest([1], 1), DEADLINES) as batches:
            await anext(batches)
            reading = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            leaving.tell()
            await asyncio.wait_for(triton.ended.wait(), LIMIT_S)
            others = asyncio.all_tasks() - {asyncio.current_task(), reading}
            await asyncio.wait(others, timeout=0.1)  # what reads the call hears of its end
            assert not reading.done()
            reading.cancel()
        leaving.tell()  # once it is over, nothing happens
        await client.close()
    assert triton.calls == ["cancelled"]


async def test_a_probe_is_left_to_triton() -> None:
    triton = Triton(response(final=True))
    async with triton.at() as address, Health(address) as health:
        assert await health.engine_answers()
        assert await quiet(triton)
        triton.let.set()
        await asyncio.wait_for(triton.ended.wait(), LIMIT_S)
    assert triton.calls == ["ended"]


async def test_who_is_cut_off_is_told_no_address(caplog: pytest.LogCaptureFixture) -> None:
    """A Triton that is gone is logged elsewhere; what else breaks a call is logged here."""
    async with Triton().at() as address:
        pass
    client = TritonClient(address)
    with pytest.raises(GenerationError, match=r"^The engine stopped answering\.$"):
        async with client.stream(TokenRequest([1], 1), DEADLINES) as batches:
            await anext(batches)
    await client.close()
    assert not caplog.records
    server = grpc.aio.server()  # without that service
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    client = TritonClient(f"127.0.0.1:{port}")
    assert await left(client)
    await client.close()
    await server.stop(None)
    assert [record.message for record in caplog.records] == ["a stream from Triton has broken: Method not found!"]
