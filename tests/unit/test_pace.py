"""How far apart a stream's batches are, by how many streams the service has."""

import array
import asyncio
from typing import Any, cast

import grpc.aio
import pytest
from tritonclient.grpc import service_pb2 as pb

from bento_trtllm.generation.deadlines import Deadlines, Watch
from bento_trtllm.generation.errors import EngineUnavailable
from bento_trtllm.generation.turns import Turns
from bento_trtllm.triton.wire.client import TritonClient
from bento_trtllm.triton.wire.token_stream import PACE, Call, Inbox
from tests.support.virtual_time import run

EVERY_S = 0.001


class Tokens:
    """A call on which a token comes every millisecond."""

    def __init__(self, tokens: int) -> None:
        self._left = tokens

    async def read(self) -> Any:
        if not self._left:
            return grpc.aio.EOF
        await asyncio.sleep(EVERY_S)
        self._left -= 1
        reply = pb.ModelStreamInferResponse()
        reply.infer_response.raw_output_contents.append(array.array("i", [7]).tobytes())
        reply.infer_response.parameters["triton_final_response"].bool_param = not self._left
        return reply.SerializeToString()

    def cancel(self) -> bool:
        return True


async def batches(streams: int) -> list[int]:
    """Tokens in each batch of 200."""
    call = Tokens(200)
    watch = Watch(call.cancel, Deadlines(60, 60, 60))
    inbox = Inbox(cast(Call, call), watch, EngineUnavailable, lambda: streams, Turns(9), alone=True)
    found = [len(batch.ids) async for batch in inbox.batches()]
    inbox.close()
    watch.stop()
    assert sum(found) == 200
    return found


@pytest.mark.parametrize("streams", [1, 50, 100])
def test_a_batch_comes_when_its_pace_lets_it(streams: int) -> None:
    _, *between, _ = run(batches(streams))
    expected = max(1, PACE.gap_s(streams) / EVERY_S)
    assert all(abs(tokens - expected) <= 1 for tokens in between)


def test_streams_of_other_workers_count() -> None:
    async def count() -> int:
        client = TritonClient("127.0.0.1:1", elsewhere=lambda: 63)
        try:
            return client._streams()
        finally:
            await client.close()

    assert asyncio.run(count()) == 63
