"""The one path from a prompt to text. Every endpoint goes through here."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass, replace

from bento_trtllm.api.errors import bad_request
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.output import Composer, FinishReason, Piece
from bento_trtllm.grammar.expressions import Rule
from bento_trtllm.grammar.grammar import ROOT, Grammar
from bento_trtllm.manifest import Manifest
from bento_trtllm.metrics.prometheus import Telemetry
from bento_trtllm.text.tokenizer import PromptTokenizer
from bento_trtllm.triton.wire.client import TokenRequest, TritonClient

# A bound that keeps the number sane: nobody can tell the text from that of a larger one.
MAX_TOP_K = 1024
# A lower temperature is 0: it would weigh how two scores were rounded, and what engines divide by in f32 ends at 1e-38.
LEAST_TEMPERATURE = 1e-5


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Greedy unless temperature, top_p or top_k says otherwise.

    `bias` is added to the logits of tokens, by id; FORBIDDEN keeps a token out. With a `grammar` the answer is
    a text of it. `log_probs` asks for a score a token.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int | None = None
    ignore_end: bool = False
    grammar: Grammar | None = None
    log_probs: bool = False

    @property
    def greedy(self) -> bool:
        if self.temperature is None:
            return not self.top_p and self.top_k is None
        return self.temperature < LEAST_TEMPERATURE or self.top_p == 0


# OpenAI's least logit bias, which bans a token.
FORBIDDEN = -100.0


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
    """Turns prompts into streams of text on one model, whose Triton model has these input tensors."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: PromptTokenizer,
        client: Callable[[], TritonClient],
        admission: Admission,
        deadlines: Deadlines,
        inputs: Collection[str],
        telemetry: Telemetry,
        longest_prompt: int | None = None,
    ) -> None:
        """`longest_prompt` is in tokens; left out, a prompt may fill the context but for one token."""
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._client = client
        self._admission = admission
        self._deadlines = deadlines
        self._inputs = inputs
        self._telemetry = telemetry
        self._end_ids = frozenset(manifest.eos_ids)
        self.longest_prompt = manifest.context_length - 1 if longest_prompt is None else longest_prompt

    async def stream(
        self, input_ids: list[int], max_tokens: int, sampling: Sampling
    ) -> AsyncGenerator[Piece | Finish, None]:
        """Yield text as it comes, in whole characters and never empty, then one Finish.

        Raises APIError for a prompt over the context length, for a server that is full, too busy or stopping, and what
        TritonClient.stream raises. Closing the
        iterator early cancels the request in the engine.
        """
        request = self._request(input_ids, max_tokens, sampling)
        composer = Composer(
            self._tokenizer,
            end_ids=frozenset() if sampling.ignore_end else self._end_ids,
            max_tokens=request.max_tokens,
            stop=sampling.stop,
            grammar=sampling.grammar,
        )
        began = asyncio.get_running_loop().time()
        async with (
            self._telemetry.stream(len(input_ids)) as count,
            self._admission.slot(self._deadlines.first_token_s),
            self._client().stream(request, self._deadlines, began) as batches,
        ):
            count.admitted()
            async for tokens in batches:
                count.arrived(len(tokens.ids))
                if piece := composer.feed(tokens):
                    yield piece
                if composer.done:
                    break
            else:
                composer.over()
            count.finished(composer.reason)
        if piece := composer.flush():
            yield piece
        yield Finish(composer.reason, Usage(len(input_ids), composer.generated))

    def _request(self, input_ids: list[int], max_tokens: int, sampling: Sampling) -> TokenRequest:
        context = self._manifest.context_length
        if len(input_ids) >= context:
            self._telemetry.refused("invalid_request")
            raise bad_request(
                f"The prompt is {len(input_ids)} tokens long, and the model's context holds {context} with the "
                "answer: shorten the prompt.",
                code="context_length_exceeded",
            )
        if len(input_ids) > self.longest_prompt:
            self._telemetry.refused("invalid_request")
            raise bad_request(
                f"The prompt is {len(input_ids)} tokens long, and without chunked context the engine takes "
                f"{self.longest_prompt}: shorten the prompt.",
                code="context_length_exceeded",
            )
        max_tokens = min(max_tokens, context - len(input_ids))
        ends = () if sampling.ignore_end else self._manifest.eos_ids
        least = min(sampling.min_tokens or 0, max_tokens) if ends else 0
        # TensorRT-LLM keeps the first of them alone out of an answer's first tokens (penaltyKernels.cu, 0.10.0 to
        # 1.3): the others then never come, and the first, which ends a chat's turn, is the one that ends the answer.
        forbidden = ends[1:] if least and self._manifest.gpu else []
        request = TokenRequest(
            input_ids,
            max_tokens,
            # TensorRT-LLM knows one end token; a Llama 3 has up to three.
            end_id=ends[0] if ends else None,
            stop_words=[[i] for i in ends[1:] if i not in forbidden],
            bad_words=[[i] for i in forbidden],
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            min_tokens=least or None,
            guide=self._guide(sampling.grammar, max_tokens),
            log_probs=sampling.log_probs,
        )
        if sampling.bias:
            banned, bias = self._bias(sampling.bias)
            request = replace(request, bad_words=[*request.bad_words, *banned], embedding_bias=bias)
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

    def _guide(self, grammar: Grammar | None, max_tokens: int) -> tuple[str, str] | None:
        if grammar is None:
            return None
        if "guided_decoding_guide" not in self._inputs:
            raise bad_request(
                "The packed engine has no guided decoding (TensorRT-LLM has it since 0.17, container 25.01): "
                "leave out response_format, and tool_choice if it names or requires a function.",
                param="response_format",
            )
        least = self._tokenizer.count(grammar.shortest(Rule(ROOT)))
        if least > max_tokens:
            raise bad_request(
                f"The shortest answer of this form takes {least} tokens: allow more than {max_tokens}.",
                param="max_tokens",
            )
        return "ebnf_grammar", grammar.ebnf

    def _bias(self, bias: tuple[tuple[int, float], ...]) -> tuple[list[list[int]], list[float]]:
        """Tokens that are only forbidden are bad words, which every engine knows; anything else is a bias."""
        if all(value <= FORBIDDEN for _, value in bias):
            return [[token] for token, _ in bias], []
        values = [0.0] * self._manifest.vocab_size
        for token, value in bias:
            values[token] = value
        return [], values
