"""Token ids to and from Triton's `tensorrt_llm`, one gRPC stream a request on a shared channel."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from bento_trtllm.errors import TritonError
from bento_trtllm.triton.health import CHANNEL_OPTIONS

MODEL = "tensorrt_llm"
FINAL = "triton_final_response"
# Prompts and answers are far below; one of 100,000 tokens is 400 kB.
MESSAGE_BYTES = 64 * 2**20
NO_NAMES: Mapping[str, str] = {}

Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.ModelInferRequest, pb.ModelStreamInferResponse]"


class RequestRefused(TritonError):
    """The engine does not take the request; the message says why."""


class EngineUnavailable(TritonError):
    """Triton cannot be reached, or ended while it answered."""


class EngineTimeout(TritonError):
    """The engine took longer than the deadline."""


@dataclass(frozen=True)
class Deadlines:
    """How long an answer may take, in seconds."""

    first_token_s: float
    between_tokens_s: float
    whole_s: float


@dataclass(frozen=True)
class TokenRequest:
    """What one answer takes. Values that are None are left to the engine.

    `stop_words` are sequences of token ids; like `end_id` they end the answer and are its last tokens.
    Without top_k and top_p the engine takes the likeliest token, whatever the temperature. `bad_words` never
    come; `embedding_bias` has a number for each token; `guide` is a kind of TensorRT-LLM's guided decoding
    ("ebnf_grammar", …) and its text.
    """

    input_ids: Sequence[int]
    max_tokens: int
    end_id: int | None = None
    stop_words: Sequence[Sequence[int]] = ()
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    min_tokens: int | None = None
    bad_words: Sequence[Sequence[int]] = ()
    embedding_bias: Sequence[float] = ()
    guide: tuple[str, str] | None = None
    log_probs: bool = False


class Tokens(NamedTuple):
    """Tokens as they come, in one batch; their log probabilities where the request asked for them."""

    ids: list[int]
    log_probs: list[float]


class TritonClient:
    """A channel to one Triton. Close it with `close`. `names` are those of tensors that its release calls otherwise."""

    def __init__(self, address: str, names: Mapping[str, str] = NO_NAMES) -> None:
        self._names = names
        limits = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
        self._channel = grpc.aio.insecure_channel(address, options=[*CHANNEL_OPTIONS, *limits])
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._watches: set[Watch] = set()

    async def close(self, reason: str = "The engine was stopped.") -> None:
        """Close the channel; streams under way are cancelled and end with EngineUnavailable, for this reason."""
        self.cut(reason)
        await self._channel.close()

    def cut(self, reason: str) -> None:
        """Cancel the streams under way; each ends with EngineUnavailable, for this reason."""
        for watch in tuple(self._watches):
            watch.expire(EngineUnavailable(reason))

    @asynccontextmanager
    async def stream(self, request: TokenRequest, deadlines: Deadlines) -> AsyncIterator[AsyncIterator[Tokens]]:
        """Send a request; iterate over its tokens in batches as they come.

        Leaving the context before the end cancels the request in the engine. The iterator raises RequestRefused,
        EngineUnavailable or EngineTimeout; it ends without an error only after Triton's final response.
        """
        call = self._stub.ModelStreamInfer()
        watch = Watch(call, deadlines)
        self._watches.add(watch)
        try:
            yield self._read(call, encode(request, self._names), watch)
        finally:
            self._watches.discard(watch)
            watch.stop()
            call.cancel()

    async def _read(self, call: Call, message: pb.ModelInferRequest, watch: "Watch") -> AsyncIterator[Tokens]:
        try:
            await call.write(message)
            await call.done_writing()
            async for reply in call:
                if reply.error_message:
                    raise refused(reply.error_message)
                tokens, final = decode(reply.infer_response)
                if tokens.ids:
                    watch.progressed()
                    yield tokens
                if final:
                    return
        except grpc.aio.AioRpcError as error:
            watch.check()
            raise EngineUnavailable(f"The engine stopped answering: {error.details()}") from error
        except asyncio.CancelledError:
            # Also what a call raises that was cancelled here, by the watch.
            watch.check()
            raise
        raise EngineUnavailable("The engine ended the stream before its last token.")


class Watch:
    """Cancels a call that is over its deadline. One timer a stream, set anew when it rings: progress costs nothing."""

    def __init__(self, call: Call, deadlines: Deadlines) -> None:
        self._call = call
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._began = self._last = self._loop.time()
        self._tokens = False
        self._expired: TritonError | None = None
        self._timer = self._loop.call_later(min(deadlines.first_token_s, deadlines.whole_s), self._ring)

    def progressed(self) -> None:
        """Tokens have come."""
        if not self._tokens:
            self._tokens = True
            self._timer.cancel()
            self._ring()
        self._last = self._loop.time()

    def expire(self, error: TritonError) -> None:
        """Cancel the call, for the reason that `check` then raises."""
        if self._expired is None:
            self._expired = error
            self._call.cancel()

    def check(self) -> None:
        """Raise the reason if it was the watch that cancelled the call."""
        if self._expired:
            raise self._expired

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _ring(self) -> None:
        now = self._loop.time()
        limits = self._deadlines
        whole = self._began + limits.whole_s
        step = self._last + limits.between_tokens_s if self._tokens else self._began + limits.first_token_s
        if now >= whole:
            self.expire(EngineTimeout(f"The answer was not complete after {limits.whole_s:g} s."))
        elif now >= step:
            waited = limits.between_tokens_s if self._tokens else limits.first_token_s
            which = "further" if self._tokens else "first"
            self.expire(EngineTimeout(f"The engine gave no {which} token within {waited:g} s."))
        else:
            self._timer = self._loop.call_at(min(whole, step), self._ring)


def refused(message: str) -> TritonError:
    """Triton's word for a request that failed, as a typed error."""
    gone = ("not ready", "unavailable", "not healthy", "stopping", "failed in a step", "is not found")
    if any(word in message.lower() for word in gone):
        return EngineUnavailable(f"The engine is not available: {message}")
    return RequestRefused(message)


def decode(response: pb.ModelInferResponse) -> tuple[Tokens, bool]:
    """The tokens of a response (output_ids, int32 [1, 1, n]), and whether it is the last."""
    ids: list[int] = []
    log_probs: list[float] = []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=False):
        if output.name == "output_ids":
            ids = memoryview(raw).cast("i").tolist()
        elif output.name == "output_log_probs":
            log_probs = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return Tokens(ids, log_probs), response.parameters[FINAL].bool_param


def encode(request: TokenRequest, names: Mapping[str, str] = NO_NAMES) -> pb.ModelInferRequest:
    """The protobuf message of a request; values travel as raw little-endian bytes.

    `names` has the tensors that the engine's release calls otherwise than TensorRT-LLM 1.x.
    """
    message = pb.ModelInferRequest(model_name=MODEL)
    message.outputs.add(name="output_ids")
    if request.log_probs:
        message.outputs.add(name="output_log_probs")

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


def word_list(words: Iterable[Sequence[int]]) -> tuple[list[int], list[int]]:
    """TensorRT-LLM's layout for words: all ids in a row, and the end of each word, padded with -1."""
    flat: list[int] = []
    ends: list[int] = []
    for word in words:
        flat += word
        ends.append(len(flat))
    return flat, ends + [-1] * (len(flat) - len(ends))
