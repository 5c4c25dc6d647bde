"""How far apart a stream's batches are, by how many streams the service has."""

import array
import asyncio
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, cast

import grpc.aio
import pytest
from tritonclient.grpc import service_pb2 as pb

from bento_trtllm.generation.deadlines import Deadlines, Watch
from bento_trtllm.generation.errors import EngineUnavailable
from bento_trtllm.generation.turns import Turns
from bento_trtllm.triton.wire.client import TritonClient
from bento_trtllm.triton.wire.stopping import Call
from bento_trtllm.triton.wire.token_stream import FAST, PACE, Inbox
from bento_trtllm.triton_models.shared.pacing import Pace
from tests.support.virtual_time import run

READ_S = 0.05
"""Between two tokens of a stream that keeps pace with a fast reader."""


class Tokens:
    """A call on which a token comes after each of these times."""

    def __init__(self, pauses: Sequence[float]) -> None:
        self._left = len(pauses)
        self._pauses = iter(pauses)

    async def read(self) -> Any:
        if not self._left:
            return grpc.aio.EOF
        await asyncio.sleep(next(self._pauses))
        self._left -= 1
        reply = pb.ModelStreamInferResponse()
        reply.infer_response.raw_output_contents.append(array.array("i", [7]).tobytes())
        reply.infer_response.parameters["triton_final_response"].bool_param = not self._left
        return reply.SerializeToString()

    def cancel(self) -> bool:
        return True


async def batches(streams: int, pauses: Sequence[float]) -> list[tuple[float, int]]:
    """When each batch came, and its tokens."""
    call = Tokens(pauses)
    watch = Watch(call.cancel, Deadlines(60, 60, 60))
    inbox = Inbox(cast(Call, call), watch, EngineUnavailable, lambda: streams, Turns(9), alone=True)
    found = [(asyncio.get_running_loop().time(), len(batch.ids)) async for batch in inbox.batches()]
    inbox.close()
    watch.stop()
    assert sum(tokens for _, tokens in found) == len(pauses)
    return found


@pytest.mark.parametrize("streams", [1, 50, 100])
@pytest.mark.parametrize(("pace", "every_s"), [(FAST, 0.001), (PACE, READ_S)])
def test_a_batch_comes_when_its_pace_lets_it(streams: int, pace: Pace, every_s: float) -> None:
    *between, _ = run(batches(streams, [every_s] * 400))[2:]
    expected = max(1, pace.gap_s(streams) / every_s)
    assert all(abs(tokens - expected) <= 1 for _, tokens in between)


@pytest.mark.parametrize("streams", [1, 64, 256, 2000])
@pytest.mark.parametrize("wavers_s", [0.0, 0.01])
def test_however_many_streams_no_text_that_may_be_read_waits_longer_than_a_tenth_of_a_second(
    streams: int, wavers_s: float
) -> None:
    pauses = [READ_S + (wavers_s if number % 2 else -wavers_s) for number in range(100)]
    found = run(batches(streams, pauses))
    made = list(accumulate(pauses))
    came = [at for at, tokens in found for _ in range(tokens)]
    assert all(at - of <= 0.1 + 1e-9 for at, of in zip(came, made, strict=True))
    assert max(tokens for _, tokens in found) <= 0.1 / READ_S + 1


@pytest.mark.parametrize(("streams", "apart_s"), [(100, 0.1), (160, 0.16), (250, 0.25), (2000, 0.25)])
def test_text_that_comes_faster_than_anybody_reads_waits_longer_where_streams_are_many(
    streams: int, apart_s: float
) -> None:
    found = run(batches(streams, [0.01] * 300))
    # How fast it is, is not known before the second batch.
    times = [at for at, _ in found[1:-1]]
    assert len(times) > 10 and all(abs(b - a - apart_s) < 0.011 for a, b in pairwise(times))


def test_a_stream_that_slows_down_is_kept_waiting_no_longer() -> None:
    fast, slow = 200, 40
    found = run(batches(2000, [0.01] * fast + [READ_S] * slow))
    began = fast * 0.01
    _, *late = (at for at, _ in found if at > began)
    assert late[0] - began < 0.25 + 0.11
    assert all(b - a < 0.1 + READ_S for a, b in pairwise(late))


def test_streams_of_other_workers_count() -> None:
    async def count() -> int:
        client = TritonClient("127.0.0.1:1", elsewhere=lambda: 63)
        try:
            return client._streams()
        finally:
            await client.close()

    assert asyncio.run(count()) == 63
