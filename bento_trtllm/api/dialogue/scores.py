"""Log probabilities of an answer's tokens, as OpenAI's APIs show them."""

from collections.abc import Sequence

from bento_trtllm.api.response_body import ResponseBody
from bento_trtllm.generation.results import TokenScore
from bento_trtllm.text.tokenizer import PromptTokenizer


class TopLogprob(ResponseBody):
    """A token that could have stood there."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token of the answer. `token` is text; where the token is part of a character, `bytes` tell which."""

    top_logprobs: list[TopLogprob]


def token_logprobs(scores: Sequence[TokenScore], top: int, tokenizer: PromptTokenizer) -> list[TokenLogprob]:
    """Scores of tokens, each with the `top` likeliest; where the engine gives none, with the one that was taken."""
    content = []
    for score in scores:
        likeliest = score.top or [(score.token, score.log_prob)]
        own = _entry(score.token, score.log_prob, tokenizer)
        # The answer shows no control tokens; one that could have stood there has its name.
        others = [_entry(token, value, tokenizer, named=token != score.token) for token, value in likeliest[:top]]
        content.append(TokenLogprob(**dict(own), top_logprobs=others))
    return content


def _entry(token: int, log_prob: float, tokenizer: PromptTokenizer, *, named: bool = False) -> TopLogprob:
    raw = tokenizer.token_bytes(token, named=named)
    return TopLogprob(token=raw.decode("utf-8", "replace"), logprob=log_prob, bytes=list(raw))
