"""What a request asks for: a prompt, how long an answer may be, and how its tokens are chosen."""

from dataclasses import dataclass

from bento_trtllm.grammar.grammar import Grammar

# A sanity bound: the text cannot be told from that of a larger top_k.
MAX_TOP_K = 1024
# A lower temperature counts as 0: it would amplify rounding, and engines divide by it in f32, whose range ends at
# 1e-38.
LEAST_TEMPERATURE = 1e-5
# OpenAI's lowest logit bias, which bans a token.
FORBIDDEN = -100.0


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens. Greedy unless temperature, top_p or top_k says otherwise.

    An answer ends at a text of `stop`, which may be the name of a control token, and at a token of `stop_ids`; with
    `keep_stop` its text is part of the answer. With `named` control tokens are shown by their names.
    `bias` is added to the logits of tokens, by id; FORBIDDEN bans a token. With a `grammar` the answer follows it.
    `log_probs` asks for the log probability of each token, `top_log_probs` for so many of the likeliest beside it.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    keep_stop: bool = False
    named: bool = False
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int | None = None
    ignore_end: bool = False
    grammar: Grammar | None = None
    log_probs: bool = False
    top_log_probs: int = 0
    min_p: float | None = None

    @property
    def greedy(self) -> bool:
        if self.temperature is None:
            return not self.top_p and self.top_k is None
        return self.temperature < LEAST_TEMPERATURE or self.top_p == 0


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt, as token ids, for one answer of at most `max_tokens` tokens, with its ids if `token_ids` says so.

    `prompt_scores` asks for the scores of the prompt's tokens, and so many of the likeliest beside each; `max_tokens`
    may be 0 then. An end token of the answer has its score then, too.
    """

    input_ids: list[int]
    max_tokens: int
    sampling: Sampling
    token_ids: bool = False
    prompt_scores: int | None = None
