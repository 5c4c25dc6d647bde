"""One stream's messages, taken from gRPC as they arrive and read in batches.

A message costs grpc-python some 40 µs whatever is done with it, so the savings are in what comes after: messages that
have accumulated become one token batch, one decoding, one chunk to the client. A stream hands over a batch at once, but
no sooner than a minimum interval after the previous one. The interval grows with the number of open streams, so that a
single stream is passed on token by token, while many cost the gateway hardly more than the messages themselves. Text
that somebody may be reading still moves ten times a second; of very many streams, those whose tokens come faster than
anybody reads wait longer.

What accumulates for a client that reads slowly is kept as numbers, 4 bytes per token (8 with log probabilities): at
most the model's context, and no other stream waits for it.
"""

import asyncio
import logging
import math
from array import array
from collections.abc import AsyncIterator, Callable

import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from bento_trtllm.generation.deadlines import Watch
from bento_trtllm.generation.errors import GenerationError
from bento_trtllm.generation.source import TokenBatch
from bento_trtllm.generation.turns import Turns
from bento_trtllm.triton.wire.codec import CACHED, IDS, SCORES
from bento_trtllm.triton.wire.probe import END_LIMIT_S
from bento_trtllm.triton.wire.scores import FurtherScores
from bento_trtllm.triton.wire.stopping import Call
from bento_trtllm.triton_models.shared.pacing import Pace

LOGGER = logging.getLogger("bento_trtllm.triton")
# A chunk costs the gateway some 200 µs, so all streams together take a third of a core.
PACE = Pace(stream_ms=0.6)
# A fifth for streams too fast to read: a chunk of theirs takes longer to read than they are apart, even so.
FAST = Pace(stream_ms=1.0, slowest_ms=250)
FAST_PER_S = 40.0
"""Tokens a second of a stream that nobody reads as it comes, which would be 20 at most."""
# No more messages than this are kept unread, at some 400 bytes each.
MOST_MESSAGES = 64
# A client that was slow gets the rest in chunks of a few kilobytes, so that no more is buffered for its connection.
MOST_TOKENS = 256
# Chunks of this many streams in one turn of the event loop: 3 ms. Without it all streams keep step.
MOST_CHUNKS = 16
FINAL = "triton_final_response"


class Inbox:
    """Collects the responses to a call. Always `close` it."""

    def __init__(
        self,
        call: Call,
        watch: Watch,
        meaning: Callable[[str], GenerationError],
        streams: Callable[[], int],
        turns: Turns,
        alone: bool = False,
        end: Callable[[], None] | None = None,
    ) -> None:
        """`meaning` turns the message with which Triton refuses or fails a request into an error.

        `streams` counts all that are open, in every worker; `turns` are those of all streams here; `alone` says that
        the request asks for output_ids alone; `end` has the engine end the request, where the call is not to be
        cancelled for that.
        """
        self._call = call
        self._watch = watch
        self._meaning = meaning
        self._streams = streams
        self._turns = turns
        self._alone = alone
        self._end_request = end
        self._messages: list[bytes] = []
        self._ids = array("i")
        self._log_probs = array("f")
        self._further = FurtherScores()
        self._cached: int | None = None
        self._arrived = asyncio.Event()
        self._final = self._gave = self._closed = False
        self._error: GenerationError | None = None
        """Why no more will come, unless the final response has arrived."""
        self._collecting = asyncio.create_task(self._collect())

    @property
    def well(self) -> bool:
        """Whether tokens have arrived, and no error."""
        return self._error is None and self._gave

    def close(self) -> None:
        """End the request, if it is still running. Whoever iterates over `batches` waits until it is cancelled.

        One that has had its last response, or that the engine is to end, is left to Triton to end, a moment later
        (END_LIMIT_S says why).
        """
        if self._closed:
            return
        self._read()
        self._closed = True
        if self._collecting.done():
            return
        if not (self._final or self._error):
            if self._end_request is None:
                self._cancel()
                return
            self._end_request()
        limit = asyncio.get_running_loop().call_later(END_LIMIT_S, self._cancel)
        self._collecting.add_done_callback(lambda _: limit.cancel())

    def expire(self) -> None:
        """The watch has ended it: `close`, and whoever iterates over `batches` hears why."""
        self.close()
        self._error = self._error or self._watch.why("The request was cancelled.")
        self._arrived.set()

    def _cancel(self) -> None:
        # Not the task that reads, which ends with the call: where a read is cancelled, grpc-python (1.85.3) keeps for
        # ever what it has of the message, and with that the 8 KiB in which it came (github.com/grpc/grpc/issues/43360).
        self._call.cancel()

    async def batches(self) -> AsyncIterator[TokenBatch]:
        """Batches of the tokens that have accumulated; ends without an error only after Triton's final response."""
        loop = asyncio.get_running_loop()
        due, last = 0.0, -math.inf
        while True:
            while not (self._messages or self._ids or self._further.has_prompt or self._final or self._error):
                self._arrived.clear()
                await self._arrived.wait()
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            await self._turns.room()
            self._read()
            if self._further.has_prompt:
                yield TokenBatch((), prompt=self._further.take_prompt())
            elif self._ids:
                batch, now = self._take(), loop.time()
                pace = FAST if len(batch.ids) > FAST_PER_S * (now - last) else PACE
                due, last = now + pace.gap_s(self._streams()), now
                self._gave = True
                yield batch
            elif self._final:
                return
            elif self._error:
                raise self._error

    async def _collect(self) -> None:
        watch = self._watch
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                if self._closed:
                    continue
                self._messages.append(message)
                if len(self._messages) >= MOST_MESSAGES:
                    self._read()
                watch.progressed()
                self._arrived.set()
            self._end("The engine ended the stream before its last token.")
        except grpc.aio.AioRpcError as error:
            # gRPC's words name ports, which clients need not know; of a Triton that has died its supervisor tells.
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                LOGGER.error("a stream from Triton has broken: %s", error.details())
            self._end("The engine stopped answering.")
        except asyncio.CancelledError:
            # Raised by a call that the watch has cancelled; or this task itself was cancelled, and nothing waits for
            # it.
            self._end("The request was cancelled.")

    def _end(self, reason: str) -> None:
        """Nothing more will come: for this reason, unless a message already gave another, or was the last."""
        if self._closed:
            return
        self._read()
        if not self._final:
            self._error = self._error or self._watch.why(reason)
        self._arrived.set()

    def _take(self) -> TokenBatch:
        """The oldest tokens, as many as fit into one chunk."""
        tops = self._further.take_tops(min(len(self._ids), MOST_TOKENS), len(self._ids))
        ids, self._ids = self._ids[:MOST_TOKENS], self._ids[MOST_TOKENS:]
        log_probs, self._log_probs = self._log_probs[:MOST_TOKENS], self._log_probs[MOST_TOKENS:]
        return TokenBatch(ids, log_probs, tops, cached=self._cached)

    def _read(self) -> None:
        """Read the messages: tokens (output_ids, int32 [1, 1, n]), an error, or the final response."""
        messages, self._messages = self._messages, []
        for message in messages:
            reply = pb.ModelStreamInferResponse.FromString(message)
            if reply.error_message:
                self._error = self._error or self._meaning(reply.error_message)
                continue
            response = reply.infer_response
            contents = response.raw_output_contents
            ids = scores = b""
            if self._alone:  # looking at names costs a microsecond
                ids = contents[0] if contents else b""
            else:
                found = {output.name: raw for output, raw in zip(response.outputs, contents, strict=False)}
                ids, scores = found.get(IDS, b""), found.get(SCORES, b"")
                self._further.add(found)
                self._note_cached(found.get(CACHED, b""))
            self._ids.frombytes(ids)
            if ids and scores:
                # The last ones, a float32 for each int32: TensorRT-LLM may repeat those of earlier tokens.
                self._log_probs.frombytes(scores[-len(ids) :])
            self._final = response.parameters[FINAL].bool_param

    def _note_cached(self, told: bytes) -> None:
        """An int32, negative where the engine does not tell. It is of the prompt, so the first is right for all."""
        if told and self._cached is None and (cached := int.from_bytes(told, "little", signed=True)) >= 0:
            self._cached = cached
