"""What of a call to Triton stays in memory after its client has left."""

import asyncio
import ctypes
import gc
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.triton.wire.client import TritonClient
from bento_trtllm.triton_models.shared.parameters import STOP_IDS
from tests.support.limits import LIMIT_S

DEADLINES = Deadlines(LIMIT_S, LIMIT_S, LIMIT_S)
AT_ONCE = 8
WARM, MORE = 40, 160
"""How many calls one after the other each of them leaves until memory is as it stays, and then."""
ROUNDS = 5
"""What each call keeps is kept in all of them. A table that doubles, by 140 or 280 kB, does so in a few: of 82,000
calls that were stopped, 277 kB stayed."""
MOST = 100
"""Bytes of a call: gRPC kept 340 to 1,000 of each whose read was cancelled, too."""


class Allocated(ctypes.Structure):
    """glibc's mallinfo2: ten numbers."""

    _fields_ = (
        ("before", ctypes.c_size_t * 4),
        ("mapped", ctypes.c_size_t),
        ("between", ctypes.c_size_t * 2),
        ("used", ctypes.c_size_t),
        ("after", ctypes.c_size_t * 2),
    )


def allocated() -> int:
    """What malloc has given and not got back, in bytes: Python's own small objects do not come from it."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Allocated
    gc.collect()
    found = mallinfo2()
    return int(found.mapped + found.used)


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # which has no types
    """It sends tokens until nobody reads them, or they are stopped."""

    def __init__(self) -> None:
        self._stopped = b""

    def ModelStreamInfer(self, requests: Any, context: Any) -> Iterator[pb.ModelStreamInferResponse]:
        request = next(requests)
        if request.inputs[-1].name == STOP_IDS:
            self._stopped += request.raw_input_contents[-1]
            return
        mine = struct.pack("<I", len(request.id)) + request.id.encode()
        reply = pb.ModelStreamInferResponse()
        reply.infer_response.raw_output_contents.append(b"\7\0\0\0")
        while context.is_active() and mine not in self._stopped:
            yield reply
            if request.id:  # else it would take whoever tells it to stop its turns
                time.sleep(0.001)


def serve(port: Connection) -> None:
    server = grpc.server(ThreadPoolExecutor(2 * AT_ONCE))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Triton(), server)
    port.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


@contextmanager
def triton() -> Iterator[str]:
    ours, its = Pipe()
    # A process of its own: what it keeps is not counted.
    process = get_context("spawn").Process(target=serve, args=(its,), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


async def leave(address: str, calls: int, stops: bool) -> None:
    """Each of AT_ONCE clients takes a token of so many calls, and leaves."""
    client = TritonClient(address, stops=stops)

    async def one() -> None:
        for _ in range(calls):
            async with client.stream(TokenRequest([1], 1), DEADLINES) as batches:
                await anext(batches)

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    reading = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*reading, return_exceptions=True), LIMIT_S)
    await client.close()


@pytest.mark.parametrize("stops", [False, True], ids=["cancelled", "stopped"])
async def test_nothing_of_it(stops: bool) -> None:
    with triton() as address:
        await leave(address, WARM, stops)
        kept = []
        for _ in range(ROUNDS):
            before = allocated()
            await leave(address, MORE, stops)
            kept.append((allocated() - before) / (MORE * AT_ONCE))
            if kept[-1] < MOST:
                return
    pytest.fail(f"{kept}")
