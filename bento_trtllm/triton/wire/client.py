"""Token ids to and from Triton's `tensorrt_llm`, one gRPC stream per answer on a shared channel."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import grpc.aio

from bento_trtllm.generation.deadlines import Deadlines, Watch
from bento_trtllm.generation.errors import EngineUnavailable
from bento_trtllm.generation.leaving import when_left
from bento_trtllm.generation.source import TokenBatch, TokenRequest
from bento_trtllm.generation.turns import Turns
from bento_trtllm.triton.wire.codec import IDS, NO_NAMES, encode
from bento_trtllm.triton.wire.failures import Failures
from bento_trtllm.triton.wire.probe import CHANNEL_OPTIONS
from bento_trtllm.triton.wire.stopping import Call, Stopping
from bento_trtllm.triton.wire.token_stream import MOST_CHUNKS, Inbox

# Prompts and answers are far smaller; one of 100,000 tokens is 400 kB.
MESSAGE_BYTES = 64 * 2**20
QUIET_S = 1.0
"""An engine that sends nothing for this long is checked, though it may have good reasons."""


class TritonClient:
    """A channel to one Triton. Close it with `close`."""

    def __init__(
        self,
        address: str,
        names: Mapping[str, str] = NO_NAMES,
        outputs: Sequence[str] = (IDS,),
        suspect: Callable[[], None] = lambda: None,
        occupy: Callable[[bool], None] = lambda answers: None,
        failures: Failures | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
        elsewhere: Callable[[], int] = lambda: 0,
        stops: bool = False,
    ) -> None:
        """`names` maps tensors to the names that this engine's release has for them; `outputs` are those to ask for.

        `suspect` is called while streams are open and nothing comes on any, and when one waits for tokens for longer
        than its deadlines allow; `occupy` with whether there are open streams; `failures` counts the answers that the
        engine failed; `metadata` is what Triton wants each call to bring; `elsewhere` counts the streams of
        other workers, with which these share the pace; `stops` is whether the engine ends requests by their ids
        (parameters.STOP_IDS), so that no call need be cancelled.
        """
        self._names = names
        self._outputs = outputs
        self._suspect = suspect
        self._occupy = occupy
        self._failures = failures or Failures()
        self._metadata = metadata
        self._elsewhere = elsewhere
        limits = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
        self._channel = grpc.aio.insecure_channel(address, options=[*CHANNEL_OPTIONS, *limits])
        # Messages stay bytes until they are read, several at a time. The method takes a stream of requests; a single
        # request is the same on the wire, and grpc-python sends it and its end at once, while a stream takes three
        # turns of the event loop.
        self._infer = self._channel.unary_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        self._stopping = Stopping(self._send) if stops else None
        self._watches: set[Watch] = set()
        self._turns = Turns(MOST_CHUNKS)
        self._looking: asyncio.TimerHandle | None = None

    async def close(self, reason: str = "The engine was stopped.") -> None:
        """Close the channel; open streams are cancelled and end with EngineUnavailable, for this reason."""
        if self._looking:
            self._looking.cancel()
        self.cut(reason)
        await self._channel.close()

    def cut(self, reason: str) -> None:
        """Cancel the open streams; each ends with EngineUnavailable, for this reason."""
        for watch in tuple(self._watches):
            watch.expire(EngineUnavailable(reason))

    @asynccontextmanager
    async def stream(
        self, request: TokenRequest, deadlines: Deadlines, began: float | None = None
    ) -> AsyncIterator[AsyncIterator[TokenBatch]]:
        """Send a request; iterate over its tokens in batches as they arrive.

        The deadlines count from `began`, by the loop's clock; by default from now. Leaving the context before the end
        cancels the request in the engine. The iterator raises RequestRefused, EngineUnavailable or EngineTimeout; it
        ends without an error only after Triton's final response.
        """
        message = encode(request, self._names, self._outputs)
        end = None
        if self._stopping:
            message.id = self._stopping.new_id()
            end = partial(self._stopping.stop, message.id)
        call = self._infer(message.SerializeToString(), metadata=(*self._metadata, *request.trace))
        watch = Watch(lambda: inbox.expire(), deadlines, began, self._suspect)  # noqa: PLW0108 - no inbox yet
        inbox = Inbox(call, watch, self._failures.meaning(), self._streams, self._turns, len(message.outputs) == 1, end)
        if not self._watches:
            self._occupy(True)
        self._watches.add(watch)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(QUIET_S, self._look)
        try:
            with when_left(inbox.close):
                yield inbox.batches()
        finally:
            self._watches.discard(watch)
            if not self._watches:
                self._occupy(False)
            watch.stop()
            inbox.close()
            if inbox.well:
                self._failures.forget()

    def _send(self, message: bytes, limit_s: float) -> Call:
        return self._infer(message, metadata=self._metadata, timeout=limit_s)

    def _streams(self) -> int:
        return len(self._watches) + self._elsewhere()

    def _look(self) -> None:
        """Called periodically while streams are open: checks whether anything has arrived on any of them."""
        self._looking = None
        if self._watches:
            loop = asyncio.get_running_loop()
            if loop.time() - max(watch.heard_at for watch in self._watches) >= QUIET_S:
                self._suspect()
            self._looking = loop.call_later(QUIET_S, self._look)
