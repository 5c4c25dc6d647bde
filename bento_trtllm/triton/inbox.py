"""One stream's messages, taken from gRPC as they come and read in batches.

A message costs grpc-python some 65 µs whatever is done with it, so what can be saved is all that comes after:
messages that have piled up become one batch of tokens, one decoding, one chunk to the client. A stream hands over a
batch at once, but no sooner than its pace after the one before. The pace is for each stream that is open, so that one
alone comes token by token, and many cost their gateway hardly more than the messages themselves.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sized
from typing import NamedTuple, TypeAlias

import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from bento_trtllm.errors import TritonError
from bento_trtllm.triton.watch import Watch

# Seconds a stream that is open: a chunk costs the gateway some 300 µs, so all streams together leave it room.
PACE_S = 0.0006
# From here on more streams make no difference: text still moves 25 times a second, as films do.
SLOWEST_PACE_S = 0.04
FINAL = "triton_final_response"

Call: TypeAlias = "grpc.aio.StreamStreamCall[bytes, bytes]"


class Tokens(NamedTuple):
    """Tokens as they come, in one batch; their log probabilities where the request asked for them."""

    ids: list[int]
    log_probs: list[float]


class Inbox:
    """Sends one request on its call, and collects what comes back. `close` it, whatever happens."""

    def __init__(
        self, call: Call, request: bytes, watch: Watch, refuse: Callable[[str], TritonError], others: Sized
    ) -> None:
        """`refuse` makes an error of the message with which Triton refuses or fails a request.

        `others` are all streams that are open.
        """
        self._call = call
        self._watch = watch
        self._refuse = refuse
        self._others = others
        self._messages: list[bytes] = []
        self._arrived = asyncio.Event()
        self._ended: TritonError | None = None
        self._collecting = asyncio.create_task(self._collect(request))

    def close(self) -> None:
        """Cancel the request, if it still runs."""
        self._collecting.cancel()
        self._call.cancel()

    async def batches(self) -> AsyncIterator[Tokens]:
        """The tokens that have piled up, again and again; ends without an error only after Triton's final response."""
        loop = asyncio.get_running_loop()
        due = 0.0
        while True:
            if not (self._messages or self._ended):
                self._arrived.clear()
                await self._arrived.wait()
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            messages, self._messages = self._messages, []
            if not messages:
                assert self._ended
                raise self._ended
            tokens, final, error = self._read(messages)
            if tokens.ids:
                due = loop.time() + min(PACE_S * len(self._others), SLOWEST_PACE_S)
                yield tokens
            if error:
                raise error
            if final:
                return

    async def _collect(self, request: bytes) -> None:
        messages, watch = self._messages, self._watch
        try:
            await self._call.write(request)
            await self._call.done_writing()
            while (message := await self._call.read()) is not grpc.aio.EOF:
                # The reader takes the list and leaves another.
                if messages is not self._messages:
                    messages = self._messages
                messages.append(message)
                watch.progressed()
                self._arrived.set()
            self._ended = self._watch.why("The engine ended the stream before its last token.")
        except grpc.aio.AioRpcError as error:
            self._ended = self._watch.why(f"The engine stopped answering: {error.details()}")
        except asyncio.CancelledError:
            # What a call raises that the watch has cancelled; or this task's own end, which nobody waits for.
            self._ended = self._watch.why("The request was cancelled.")
        self._arrived.set()

    def _read(self, messages: list[bytes]) -> tuple[Tokens, bool, TritonError | None]:
        """All tokens of the messages (output_ids, int32 [1, 1, n]), whether the last is final, and an error in it."""
        ids: list[int] = []
        log_probs: list[float] = []
        final = False
        for message in messages:
            reply = pb.ModelStreamInferResponse.FromString(message)
            if reply.error_message:
                return Tokens(ids, log_probs), False, self._refuse(reply.error_message)
            response = reply.infer_response
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
                if output.name == "output_ids":
                    ids += memoryview(raw).cast("i")
                elif output.name == "output_log_probs":
                    log_probs += memoryview(raw).cast("f")
            final = response.parameters[FINAL].bool_param
        return Tokens(ids, log_probs), final, None
