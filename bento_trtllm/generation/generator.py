"""The single path from a prompt to text, used by every endpoint."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.engine_request import engine_request, stop_tokens
from bento_trtllm.generation.errors import InvalidRequest, kind_of
from bento_trtllm.generation.observer import CANCELLED, NoObserver, Observer
from bento_trtllm.generation.output import OutputProcessor
from bento_trtllm.generation.parameters import GenerationRequest
from bento_trtllm.generation.results import Finish, TextDelta, TokenCounts
from bento_trtllm.generation.source import TokenRequest, TokenSource
from bento_trtllm.generation.tokenizer import AnswerTokenizer


class Generator:
    """Turns prompts into streams of text on one engine."""

    def __init__(
        self,
        engine: EngineProfile,
        tokenizer: AnswerTokenizer,
        source: Callable[[], TokenSource],
        admission: Admission,
        deadlines: Deadlines,
        observer: Observer | None = None,
    ) -> None:
        """`source` returns the current engine, and is called once a request has its slot; it may raise
        EngineUnavailable."""
        self._engine = engine
        self._tokenizer = tokenizer
        self._source = source
        self._admission = admission
        self._deadlines = deadlines
        self._observer = observer or NoObserver()
        self._end_ids = frozenset(engine.end_ids)

    @property
    def guided(self) -> bool:
        """Whether answers can be kept to a grammar."""
        return self._engine.guided

    @property
    def longest_prompt(self) -> int:
        """The most tokens that a prompt may have."""
        return self._engine.longest_prompt

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[TextDelta | Finish, None]:
        """Yield text as it arrives, in whole characters and never empty but for scores alone, then one Finish.

        Raises InvalidRequest for what the engine cannot do, QueueFull, WaitedTooLong or Draining for want of a slot,
        and what TokenSource.stream raises. Closing the iterator early cancels the request in the engine.
        """
        asked = self._ask(request)
        prompt_tokens = len(request.input_ids)
        output = OutputProcessor(
            self._tokenizer,
            end_ids=frozenset() if request.sampling.ignore_end else self._end_ids,
            max_tokens=asked.max_tokens,
            stop=request.sampling.stop,
            stop_ids=stop_tokens(request.sampling, self._engine, self._tokenizer),
            keep_stop=request.sampling.keep_stop,
            named=request.sampling.named,
            grammar=request.sampling.grammar,
            keep_ids=request.token_ids,
            score_ends=request.prompt_scores is not None,
        )
        began = asyncio.get_running_loop().time()
        observing = self._observer.began(request)
        if observing.trace:
            asked = replace(asked, trace=observing.trace)
        # GeneratorExit and CancelledError leave this as it is: the client has left.
        outcome = CANCELLED
        cached: int | None = None
        try:
            async with (
                self._admission.slot(self._deadlines.first_token_s),
                self._source().stream(asked, self._deadlines, began) as batches,
            ):
                observing.admitted()
                async for tokens in batches:
                    if tokens.prompt:
                        yield TextDelta("", prompt=tokens.prompt)
                    if not tokens.ids:
                        continue
                    observing.arrived(len(tokens.ids))
                    cached = tokens.cached if cached is None else cached
                    if delta := output.feed(tokens):
                        yield delta
                    if output.done:
                        break
                else:
                    output.over()
                last = output.flush()
                outcome = output.reason  # after the flush, which may change it
        except Exception as error:
            outcome = kind_of(error)
            raise
        finally:
            observing.ended(outcome)
        if last:
            yield last
        counts = TokenCounts(prompt_tokens, output.generated, cached)
        yield Finish(output.reason, counts, output.stop_reason, output.take_ids())

    def _ask(self, request: GenerationRequest) -> TokenRequest:
        try:
            return engine_request(request, self._engine, self._tokenizer)
        except InvalidRequest as error:
            self._observer.refused(error.kind)
            raise
