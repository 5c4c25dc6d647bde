"""The one path from a prompt to text. Every endpoint goes through here."""

import secrets
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Literal

from bento_trtllm.api.admission import Admission
from bento_trtllm.api.errors import bad_request
from bento_trtllm.manifest import Manifest
from bento_trtllm.telemetry import Telemetry
from bento_trtllm.text.stop import StopStrings
from bento_trtllm.text.tokenizer import PromptTokenizer
from bento_trtllm.triton.client import Deadlines, TokenRequest, TritonClient

# A bound that keeps the number sane: nobody can tell the text from that of a larger one.
MAX_TOP_K = 1024

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Greedy unless temperature, top_p or top_k says otherwise."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    @property
    def greedy(self) -> bool:
        if self.temperature is None:
            return not self.top_p and self.top_k is None
        return self.temperature == 0 or self.top_p == 0


@dataclass(frozen=True)
class Usage:
    """Tokens, counted, not estimated. The end token counts: the engine made it."""

    prompt_tokens: int
    completion_tokens: int

    def body(self) -> dict[str, int]:
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }


@dataclass(frozen=True)
class Finish:
    """The last item of a stream that ended well."""

    reason: FinishReason
    usage: Usage


class TextStreams:
    """Turns prompts into streams of text on one model."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: PromptTokenizer,
        client: Callable[[], TritonClient],
        admission: Admission,
        deadlines: Deadlines,
        telemetry: Telemetry,
    ) -> None:
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._client = client
        self._admission = admission
        self._deadlines = deadlines
        self._telemetry = telemetry
        self._end_ids = frozenset(manifest.eos_ids)

    async def stream(
        self, input_ids: list[int], max_tokens: int, sampling: Sampling
    ) -> AsyncGenerator[str | Finish, None]:
        """Yield text as it comes, in whole characters and never empty, then one Finish.

        Raises APIError for a prompt over the context length, for a server that is full or stopping, and what
        TritonClient.stream raises. Closing the
        iterator early cancels the request in the engine.
        """
        stop = StopStrings(sampling.stop)
        detokenizer = self._tokenizer.detokenizer()
        generated = 0
        last = -1
        stopped = False
        request = self._request(input_ids, max_tokens, sampling)
        async with (
            self._telemetry.stream(len(input_ids)) as count,
            self._admission.slot(),
            self._client().stream(request, self._deadlines) as batches,
        ):
            count.admitted()
            async for tokens in batches:
                count.arrived(len(tokens))
                generated += len(tokens)
                last = tokens[-1]
                text, stopped = stop.feed(detokenizer.feed(tokens))
                if text:
                    yield text
                if stopped:
                    break
            ended = stopped or last in self._end_ids or generated < request.max_tokens
            count.finished("stop" if ended else "length")
        if not stopped:
            text, stopped = stop.feed(detokenizer.flush())
            if text := text if stopped else text + stop.flush():
                yield text
        ended = stopped or last in self._end_ids or generated < request.max_tokens
        yield Finish("stop" if ended else "length", Usage(len(input_ids), generated))

    def _request(self, input_ids: list[int], max_tokens: int, sampling: Sampling) -> TokenRequest:
        context = self._manifest.context_length
        if len(input_ids) >= context:
            self._telemetry.refused("invalid_request")
            raise bad_request(
                f"The prompt is {len(input_ids)} tokens long, and the model's context holds {context} with the "
                "answer: shorten the prompt."
            )
        ends = self._manifest.eos_ids
        request = TokenRequest(
            input_ids,
            min(max_tokens, context - len(input_ids)),
            # TensorRT-LLM knows one end token; a Llama 3 has up to three.
            end_id=ends[0] if ends else None,
            stop_words=[[i] for i in ends[1:]],
        )
        if sampling.greedy:
            return request
        return replace(
            request,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            # Without either the engine would be greedy, whatever the temperature.
            top_p=sampling.top_p if sampling.top_p is not None else (None if sampling.top_k else 1.0),
            seed=sampling.seed if sampling.seed is not None else secrets.randbits(63),
        )
