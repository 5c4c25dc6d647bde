"""Log probabilities of tokens, as OpenAI's API shows them, and vLLM's of a prompt (0.11, outputs and logprobs.py)."""

from collections.abc import Sequence

from bento_trtllm.api.dialogue.scores import token_logprobs
from bento_trtllm.api.openai.responses import ChoiceLogprobs, CompletionLogprobs, PromptLogprob, PromptLogprobs
from bento_trtllm.generation.results import TokenScore
from bento_trtllm.generation.source import PromptScore
from bento_trtllm.text.tokenizer import PromptTokenizer


def chat_logprobs(scores: Sequence[TokenScore], top: int, tokenizer: PromptTokenizer) -> ChoiceLogprobs:
    """A chat's scores, with the `top` likeliest tokens of each."""
    return ChoiceLogprobs(content=token_logprobs(scores, top, tokenizer), refusal=None)


def completion_logprobs(
    scores: Sequence[TokenScore], top: int, tokenizer: PromptTokenizer, offset: int
) -> CompletionLogprobs:
    """A completion's scores; `offset` is the number of characters before the first of them."""
    found = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[] if top else None, text_offset=[])
    for score in scores:
        offset = _add(found, score, top, tokenizer, offset)
    return found


def with_prompt(
    ids: Sequence[int],
    prompt: Sequence[PromptScore],
    answer: Sequence[TokenScore],
    top: int,
    tokenizer: PromptTokenizer,
    offset: int,
) -> CompletionLogprobs:
    """The scores of an echoed prompt, whose text has `offset` characters, and of the answer's tokens behind it."""
    found = CompletionLogprobs(
        tokens=[_text(ids[0], tokenizer)], token_logprobs=[None], top_logprobs=[None] if top else None, text_offset=[0]
    )
    at = _width(ids[0], tokenizer)
    for token, score in zip(ids[1:], prompt, strict=True):
        at = _add(found, TokenScore(token, score.log_prob, score.top), top, tokenizer, at)
    for each in answer:
        offset = _add(found, each, top, tokenizer, offset)
    return found


def prompt_logprobs(
    ids: Sequence[int], scores: Sequence[PromptScore], top: int, tokenizer: PromptTokenizer
) -> PromptLogprobs:
    """A prompt's scores; a token's own comes after the likeliest if it is not among them."""
    found: PromptLogprobs = [None]
    for token, score in zip(ids[1:], scores, strict=True):
        ranked = {other: (value, rank) for rank, (other, value) in enumerate(score.top[:top], 1)}
        ranked.setdefault(token, (score.log_prob, score.rank))
        found.append(
            {
                str(other): PromptLogprob(logprob=value, rank=rank, decoded_token=_text(other, tokenizer))
                for other, (value, rank) in ranked.items()
            }
        )
    return found


def _add(found: CompletionLogprobs, score: TokenScore, top: int, tokenizer: PromptTokenizer, offset: int) -> int:
    """Append a token's score; where the next token's text begins."""
    text = _text(score.token, tokenizer)
    found.tokens.append(text)
    found.token_logprobs.append(score.log_prob)
    if found.top_logprobs is not None:
        # Tokens can have one text, as parts of characters do: the likeliest of them counts.
        likeliest: dict[str, float] = {}
        for token, value in (*score.top[:top], (score.token, score.log_prob)):
            likeliest.setdefault(_text(token, tokenizer), value)
        found.top_logprobs.append(likeliest)
    found.text_offset.append(offset)
    return offset + _width(score.token, tokenizer)


def _text(token: int, tokenizer: PromptTokenizer) -> str:
    """Control tokens by their names."""
    return tokenizer.token_bytes(token, named=True).decode("utf-8", "replace")


def _width(token: int, tokenizer: PromptTokenizer) -> int:
    """Characters of a token in the text, which shows no control tokens."""
    return len(tokenizer.token_bytes(token).decode("utf-8", "replace"))
