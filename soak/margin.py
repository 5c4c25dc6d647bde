"""Whether rounding can have decided between two answers: how far apart the scores of the tokens were where they
part."""

import numpy as np

from bento_trtllm.engines.openvino.reference import Reference
from bento_trtllm.text.tokenizer import PromptTokenizer


class Margin:
    """The margin between answers, by a forward pass in numpy, in f32."""

    def __init__(self, llama: Reference, tokenizer: PromptTokenizer, end_ids: list[int]) -> None:
        self._llama = llama
        self._tokenizer = tokenizer
        self._end_ids = end_ids

    def between(self, prompt: tuple[int, ...], one: str, other: str) -> float:
        """The difference in log probability (natural logarithm) of the two tokens at which the texts part.

        Both texts are answers to the prompt; "�" may stand at their ends for a character that was cut. Infinite where
        they do not part.
        """
        ids, left, right = list(prompt), one.rstrip("�").encode(), other.rstrip("�").encode()
        while True:
            logits = self._llama.logits(ids, len(ids) - 1)[0]
            order = [int(token) for token in np.argsort(logits)[::-1]]
            mine, others = self._next(order, left), self._next(order, right)
            if mine is None or others is None:
                return float("inf")
            if mine != others:
                return float(abs(logits[mine] - logits[others]))
            if mine in self._end_ids:
                return float("inf")
            ids.append(mine)
            size = len(self._tokenizer.token_bytes(mine))
            left, right = left[size:], right[size:]

    def _next(self, order: list[int], text: bytes) -> int | None:
        """The likeliest token that goes on as the text does: an end where nothing is left of it."""
        for token in order:
            data = self._tokenizer.token_bytes(token)
            if (token in self._end_ids) if not text else (data and text.startswith(data)):
                return token
        return None
