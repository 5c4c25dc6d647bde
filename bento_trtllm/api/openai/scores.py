"""Log probabilities of tokens, as OpenAI's API shows them."""

from collections.abc import Sequence

from bento_trtllm.api.openai.responses import ChoiceLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob
from bento_trtllm.generation.results import TokenScore
from bento_trtllm.text.tokenizer import PromptTokenizer


def chat_logprobs(scores: Sequence[TokenScore], top: int, tokenizer: PromptTokenizer) -> ChoiceLogprobs:
    """A chat's scores. `top` is 0 or 1: the likeliest token is then the one that was taken."""
    content = []
    for score in scores:
        raw = tokenizer.token_bytes(score.token)
        entry = TopLogprob(token=raw.decode("utf-8", "replace"), logprob=score.log_prob, bytes=list(raw))
        content.append(TokenLogprob(**dict(entry), top_logprobs=[entry] * top))
    return ChoiceLogprobs(content=content, refusal=None)


def completion_logprobs(
    scores: Sequence[TokenScore], top: int, tokenizer: PromptTokenizer, offset: int
) -> CompletionLogprobs:
    """A completion's scores; `offset` is the number of characters before the first of them."""
    tokens = [tokenizer.token_bytes(score.token).decode("utf-8", "replace") for score in scores]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    values = [score.log_prob for score in scores]
    likeliest = [{token: value} for token, value in zip(tokens, values, strict=True)] if top else None
    return CompletionLogprobs(tokens=tokens, token_logprobs=values, top_logprobs=likeliest, text_offset=offsets)
