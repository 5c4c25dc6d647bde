"""POST /v1/completions."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from bento_trtllm.api.dialogue.context_length import answer_tokens, within
from bento_trtllm.api.dialogue.forms import compile_form
from bento_trtllm.api.dialogue.sampling import read_sampling, require
from bento_trtllm.api.errors import bad_request
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.openai import guides, responses
from bento_trtllm.api.openai.choices import ResponseHead, UsageCounter
from bento_trtllm.api.openai.extras import Extras, WantedExtras
from bento_trtllm.api.openai.requests import CompletionRequest
from bento_trtllm.api.openai.scores import completion_logprobs, prompt_logprobs, with_prompt
from bento_trtllm.api.response_body import ResponseBody
from bento_trtllm.generation.fan_out import ChoiceEvent, repeat
from bento_trtllm.generation.parameters import GenerationRequest
from bento_trtllm.generation.results import TextDelta, TokenScore
from bento_trtllm.generation.source import PromptScore

# OpenAI's own default for this route.
MAX_TOKENS = 16


@dataclass(frozen=True)
class Completions:
    """A request that was understood. `echoes` are the texts that the choices begin with.

    Of each prompt's `made` answers, which follow each other, the `kept` that the model finds likeliest are choices.
    """

    requests: list[GenerationRequest]
    echoes: list[str]
    prompt_tokens: int
    logprobs: int | None
    made: int
    kept: int
    scored: bool = False
    """Whether the scores of the prompt are among those of a choice."""
    prompt_logprobs: int | None = None


def has_form(request: CompletionRequest) -> bool:
    """Whether the answer's form is prescribed, which is more to read than text of that length."""
    return guides.has_form(request)


def read(request: CompletionRequest, model: ServedModel) -> Completions:
    """Understand a request. Raises APIError."""
    n = request.n or 1
    made = request.best_of or n
    if request.suffix:
        raise bad_request("suffix is not supported: Llama 3 is not trained to fill in.", param="suffix")
    if made < n or (made > n and request.stream):
        why = "does not go with stream: nobody knows which is best before all have ended" if made > n else "is below n"
        raise bad_request(f"best_of {why}.", param="best_of")
    prompt_scores = _prompt_scores(request, model)
    prompts = _prompts(request, model)
    form = guides.read(request)
    grammar = compile_form(form, made * len(prompts)) if form else None
    sampling = read_sampling(
        request,
        model.defaults,
        model.manifest,
        grammar=grammar,
        top_logprobs=request.logprobs,
        scores_field="logprobs",
    )
    if made > n:
        sampling = replace(sampling, log_probs=True)
    context = model.manifest.context_length
    requests: list[GenerationRequest] = []
    echoes: list[str] = []
    prompt_tokens = 0
    for input_ids, text in prompts:
        wanted = request.max_tokens
        if wanted is None:
            wanted = min(MAX_TOKENS, max(context - len(input_ids), 1))
        max_tokens = answer_tokens(wanted, len(input_ids), context, field="max_tokens", prompt_field="prompt")
        asked = GenerationRequest(input_ids, max_tokens, sampling, WantedExtras.of(request).any, prompt_scores)
        requests += repeat(asked, made)
        echoes += [text if request.echo else ""] * made
        prompt_tokens += len(input_ids)
    scored = bool(request.echo) and request.logprobs is not None
    return Completions(requests, echoes, prompt_tokens, request.logprobs, made, n, scored, request.prompt_logprobs)


def _prompt_scores(request: CompletionRequest, model: ServedModel) -> int | None:
    """How many of the likeliest tokens are wanted beside each of the prompt's; None: no scores. Raises APIError."""
    echoed = request.logprobs if request.echo else None
    if request.prompt_logprobs is not None:
        if request.stream:
            raise bad_request("prompt_logprobs does not go with stream.", param="prompt_logprobs")
        require(model.manifest, "num_prompt_log_probs", "prompt_logprobs")
        return max(request.prompt_logprobs, echoed or 0)
    if request.max_tokens == 0:
        if not request.echo:
            raise bad_request("max_tokens is 0: that goes with echo, or with prompt_logprobs.", param="max_tokens")
        require(model.manifest, "num_prompt_log_probs", "max_tokens", "ask for 1 at least")
        return echoed or 0
    if echoed is not None:
        require(model.manifest, "num_prompt_log_probs", "echo", "it does not score the prompt, so leave out logprobs")
    return echoed


def _prompts(request: CompletionRequest, model: ServedModel) -> list[tuple[list[int], str]]:
    """Token ids and text of each prompt."""
    prompt = request.prompt
    prompts: list[str | list[int]] = []
    if isinstance(prompt, str):
        prompts = [prompt]
    elif isinstance(prompt[0], int):
        prompts = [[token for token in prompt if isinstance(token, int)]]
    else:
        prompts = [item for item in prompt if not isinstance(item, int)]
    return [_prompt(item, model) for item in prompts]


def _prompt(prompt: str | list[int], model: ServedModel) -> tuple[list[int], str]:
    if isinstance(prompt, str):
        with within(model.manifest.context_length, "prompt"):
            input_ids = [*model.tokenizer.prefix, *model.tokenizer.encode_text(prompt)]
        if not input_ids:
            raise bad_request("prompt is empty.", param="prompt")
        return input_ids, prompt
    if wrong := next((token for token in prompt if not 0 <= token < model.manifest.vocab_size), None):
        raise bad_request(
            f"prompt has the token {wrong}: ids are from 0 to {model.manifest.vocab_size - 1}.", param="prompt"
        )
    return prompt, model.tokenizer.decode(prompt)


class CompletionStream:
    """Events of the core as events of a stream."""

    def __init__(
        self,
        completions: Completions,
        head: ResponseHead,
        model: ServedModel,
        *,
        include_usage: bool,
        wanted: WantedExtras,
    ) -> None:
        self._completions = completions
        self._head = head
        self._model = model
        self._written = [len(text) for text in completions.echoes]
        self._include_usage = include_usage
        prompts = [asked.input_ids for asked in completions.requests]
        self._prompts: list[list[PromptScore]] = [[] for _ in prompts]
        self._echoed = [False] * len(prompts)
        self._extras = Extras(wanted, prompts, completions.prompt_tokens)

    async def render(self, events: AsyncGenerator[ChoiceEvent, None]) -> AsyncGenerator[list[ResponseBody], None]:
        """The chunks of a response, in the groups in which they come."""
        usage = _counter(self._completions)
        for i, text in enumerate(self._completions.echoes):
            if text and not self._completions.scored:
                yield [self._chunk(i, text, None)]
        async with aclosing(events):
            async for i, item in events:
                group: list[ResponseBody]
                if isinstance(item, TextDelta) and item.prompt:
                    self._prompts[i] += item.prompt
                    continue
                echoed = self._echo(i)
                if isinstance(item, TextDelta):
                    group = [self._chunk(i, item.text, self._scores(i, item))]
                    self._written[i] += len(item.text)
                else:
                    usage.add(i, item)
                    last = responses.CompletionChoice(
                        index=i, text="", logprobs=None, finish_reason=item.reason, stop_reason=item.stop
                    )
                    group = [self._of(last)]
                    if self._include_usage and usage.complete:
                        group.append(envelope(self._head, [], usage=usage.usage()))
                self._extras.add(i, item, group)
                yield [*echoed, *group]

    def _echo(self, i: int) -> list[ResponseBody]:
        """The prompt with its scores, once, before the first of an answer."""
        if not self._completions.scored or self._echoed[i]:
            return []
        self._echoed[i] = True
        text, ids = self._completions.echoes[i], self._completions.requests[i].input_ids
        top = self._completions.logprobs or 0
        return [self._chunk(i, text, with_prompt(ids, self._prompts[i], (), top, self._model.tokenizer, len(text)))]

    def _scores(self, i: int, piece: TextDelta) -> responses.CompletionLogprobs | None:
        top = self._completions.logprobs
        if top is None:
            return None
        return completion_logprobs(piece.scores, top, self._model.tokenizer, self._written[i])

    def _chunk(self, i: int, text: str, logprobs: responses.CompletionLogprobs | None) -> responses.Completion:
        return self._of(responses.CompletionChoice(index=i, text=text, logprobs=logprobs, finish_reason=None))

    def _of(self, choice: responses.CompletionChoice) -> responses.Completion:
        return envelope(self._head, [choice], usage=None) if self._include_usage else envelope(self._head, [choice])


async def collect(
    completions: Completions, head: ResponseHead, model: ServedModel, events: AsyncGenerator[ChoiceEvent, None]
) -> responses.Completion:
    """The whole response at once."""
    usage = _counter(completions)
    answers = [_Answer() for _ in completions.requests]
    async for i, item in events:
        answers[i].ids += item.ids
        if isinstance(item, TextDelta):
            answers[i].text += item.text
            answers[i].scores += item.scores
            answers[i].prompt += item.prompt
        else:
            usage.add(i, item)
            answers[i].reason, answers[i].stop = item.reason, item.stop
    choices: list[responses.CompletionChoice] = []
    for i in _best(completions, answers):
        answer, asked, scores = answers[i], completions.requests[i], None
        if completions.logprobs is not None:
            scores = _logprobs(completions, i, answer, completions.logprobs, model)
        choice = responses.CompletionChoice(
            index=len(choices),
            text=completions.echoes[i] + answer.text,
            logprobs=scores,
            finish_reason=answer.reason,
            stop_reason=answer.stop,
        )
        if asked.token_ids:
            choice.token_ids, choice.prompt_token_ids = answer.ids, asked.input_ids
        if completions.prompt_logprobs is not None:
            choice.prompt_logprobs = prompt_logprobs(
                asked.input_ids, answer.prompt, completions.prompt_logprobs, model.tokenizer
            )
        choices.append(choice)
    return envelope(head, choices, usage=usage.usage())


def _counter(completions: Completions) -> UsageCounter:
    return UsageCounter(completions.prompt_tokens, len(completions.requests), completions.made)


@dataclass
class _Answer:
    """What there is of one answer."""

    text: str = ""
    scores: list[TokenScore] = field(default_factory=list)
    prompt: list[PromptScore] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    reason: responses.FinishReason = "stop"
    stop: responses.StopReason = None

    def likelihood(self) -> float:
        """Per token, so that a short answer is not better for being short."""
        return sum(score.log_prob for score in self.scores) / max(len(self.scores), 1)


def _logprobs(
    completions: Completions, i: int, answer: _Answer, top: int, model: ServedModel
) -> responses.CompletionLogprobs:
    """Of an answer, and of the prompt before it, if that is shown."""
    if not completions.scored:
        return completion_logprobs(answer.scores, top, model.tokenizer, 0)
    ids, shown = completions.requests[i].input_ids, len(completions.echoes[i])
    return with_prompt(ids, answer.prompt, answer.scores, top, model.tokenizer, shown)


def _best(completions: Completions, answers: Sequence[_Answer]) -> list[int]:
    """The numbers of the answers that are choices; those of a prompt with the likeliest first, if they were chosen."""
    if completions.made == completions.kept:
        return list(range(len(answers)))
    found: list[int] = []
    for start in range(0, len(answers), completions.made):
        ranked = sorted(range(start, start + completions.made), key=lambda i: -answers[i].likelihood())
        found += ranked[: completions.kept]
    return found


def envelope(
    head: ResponseHead, choices: list[responses.CompletionChoice], **usage: responses.CompletionUsage | None
) -> responses.Completion:
    """A response, or an event of one."""
    return responses.Completion(
        id=head.id,
        object="text_completion",
        created=head.created,
        model=head.model,
        system_fingerprint=head.system_fingerprint,
        choices=choices,
        **usage,
    )
