"""Token ids to and from Triton's `tensorrt_llm`, one gRPC stream a request on a shared channel."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import grpc.aio
from tritonclient.grpc import service_pb2 as pb

from bento_trtllm.generation.deadlines import Deadlines, Watch
from bento_trtllm.generation.errors import EngineUnavailable
from bento_trtllm.generation.source import TokenBatch, TokenRequest
from bento_trtllm.triton.wire.failures import Failures
from bento_trtllm.triton.wire.probe import CHANNEL_OPTIONS
from bento_trtllm.triton.wire.token_stream import IDS, SCORES, Inbox

MODEL = "tensorrt_llm"
# Prompts and answers are far below; one of 100,000 tokens is 400 kB.
MESSAGE_BYTES = 64 * 2**20
QUIET_S = 1.0
"""An engine that sends nothing for so long is looked at, though it may have good reasons."""
NO_NAMES: Mapping[str, str] = {}


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
    ) -> None:
        """`names` are those of tensors that its release calls otherwise, `outputs` what its engine must be asked for.

        `suspect` is called while streams are open and nothing comes on any, and when one waits for tokens for longer
        than its deadlines allow; `occupy` with whether there are open streams; `failures` counts the answers that the
        engine failed; `metadata` is what Triton wants each call to bring.
        """
        self._names = names
        self._outputs = outputs
        self._suspect = suspect
        self._occupy = occupy
        self._failures = failures or Failures()
        self._metadata = metadata
        limits = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
        self._channel = grpc.aio.insecure_channel(address, options=[*CHANNEL_OPTIONS, *limits])
        # Messages stay bytes until they are read, several at a time. The method takes a stream of requests; one request
        # is the same on the wire, and grpc-python sends it and its end at once, where a stream takes three turns.
        self._infer = self._channel.unary_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        self._watches: set[Watch] = set()
        self._looking: asyncio.TimerHandle | None = None

    async def close(self, reason: str = "The engine was stopped.") -> None:
        """Close the channel; streams under way are cancelled and end with EngineUnavailable, for this reason."""
        if self._looking:
            self._looking.cancel()
        self.cut(reason)
        await self._channel.close()

    def cut(self, reason: str) -> None:
        """Cancel the streams under way; each ends with EngineUnavailable, for this reason."""
        for watch in tuple(self._watches):
            watch.expire(EngineUnavailable(reason))

    @asynccontextmanager
    async def stream(
        self, request: TokenRequest, deadlines: Deadlines, began: float | None = None
    ) -> AsyncIterator[AsyncIterator[TokenBatch]]:
        """Send a request; iterate over its tokens in batches as they come.

        The deadlines count from `began`, by the loop's clock; left out, from now.
        Leaving the context before the end cancels the request in the engine. The iterator raises RequestRefused,
        EngineUnavailable or EngineTimeout; it ends without an error only after Triton's final response.
        """
        message = encode(request, self._names, self._outputs)
        call = self._infer(message.SerializeToString(), metadata=self._metadata)
        watch = Watch(call.cancel, deadlines, began, self._suspect)
        inbox = Inbox(call, watch, self._failures.meaning(), self._watches, alone=len(message.outputs) == 1)
        if not self._watches:
            self._occupy(True)
        self._watches.add(watch)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(QUIET_S, self._look)
        try:
            yield inbox.batches()
        finally:
            self._watches.discard(watch)
            if not self._watches:
                self._occupy(False)
            watch.stop()
            inbox.close()
            if inbox.well:
                self._failures.forget()

    def _look(self) -> None:
        """Now and then while streams are open: whether anything has come on any of them."""
        self._looking = None
        if self._watches:
            loop = asyncio.get_running_loop()
            if loop.time() - max(watch.heard_at for watch in self._watches) >= QUIET_S:
                self._suspect()
            self._looking = loop.call_later(QUIET_S, self._look)


def encode(
    request: TokenRequest, names: Mapping[str, str] = NO_NAMES, outputs: Sequence[str] = (IDS,)
) -> pb.ModelInferRequest:
    """The protobuf message of a request; values travel as raw little-endian bytes.

    `names` has the tensors that the engine's release calls otherwise than TensorRT-LLM 1.x; `outputs` are those that
    its engine must be asked for, whatever the request.
    """
    message = pb.ModelInferRequest(model_name=MODEL)
    for name in (*outputs, SCORES) if request.log_probs else outputs:
        message.outputs.add(name=name)

    def put(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> None:
        message.inputs.add(name=names.get(name, name), datatype=datatype, shape=shape)
        message.raw_input_contents.append(raw)

    def put_scalar(name: str, datatype: str, code: str, value: int | float | bool | None) -> None:
        if value is not None:
            put(name, datatype, [1, 1], struct.pack(f"<{code}", value))

    def put_words(name: str, words: Sequence[Sequence[int]]) -> None:
        if words:
            flat, ends = word_list(words)
            put(name, "INT32", [1, 2, len(flat)], struct.pack(f"<{2 * len(flat)}i", *flat, *ends))

    def put_text(name: str, text: str) -> None:
        raw = text.encode()
        put(name, "BYTES", [1, 1], struct.pack("<I", len(raw)) + raw)

    ids = request.input_ids
    put("input_ids", "INT32", [1, len(ids)], struct.pack(f"<{len(ids)}i", *ids))
    put_scalar("input_lengths", "INT32", "i", len(ids))
    put_scalar("request_output_len", "INT32", "i", request.max_tokens)
    put_scalar("streaming", "BOOL", "?", True)
    put_scalar("end_id", "INT32", "i", request.end_id)
    put_words("stop_words_list", request.stop_words)
    put_words("bad_words_list", request.bad_words)
    put_scalar("temperature", "FP32", "f", request.temperature)
    put_scalar("runtime_top_k", "INT32", "i", request.top_k)
    put_scalar("runtime_top_p", "FP32", "f", request.top_p)
    put_scalar("repetition_penalty", "FP32", "f", request.repetition_penalty)
    put_scalar("presence_penalty", "FP32", "f", request.presence_penalty)
    put_scalar("frequency_penalty", "FP32", "f", request.frequency_penalty)
    put_scalar("seed", "UINT64", "Q", request.seed)
    put_scalar("min_tokens", "INT32", "i", request.min_tokens)
    if request.log_probs:
        put_scalar("return_log_probs", "BOOL", "?", True)
    if bias := request.embedding_bias:
        put("embedding_bias", "FP32", [1, len(bias)], struct.pack(f"<{len(bias)}f", *bias))
    if request.guide:
        kind, text = request.guide
        put_text("guided_decoding_guide_type", kind)
        put_text("guided_decoding_guide", text)
    return message


def question() -> pb.ModelInferRequest:
    """The least request: only the engine's own loop can answer it, with one token, and any engine's outputs are named.

    Not one with `stop`: NVIDIA's backend answers that in Triton's thread, while its Executor may stand still, and never
    gives up what it made for the answer (sendEnqueueResponse in model_instance_state.cc, 0.10.0 to 1.3.0rc3).
    """
    return encode(TokenRequest([0], 1), outputs=(IDS, "sequence_length"))


def word_list(words: Iterable[Sequence[int]]) -> tuple[list[int], list[int]]:
    """TensorRT-LLM's layout for words: all ids in a row, and the end of each word, padded with -1."""
    flat: list[int] = []
    ends: list[int] = []
    for word in words:
        flat += word
        ends.append(len(flat))
    return flat, ends + [-1] * (len(flat) - len(ends))
