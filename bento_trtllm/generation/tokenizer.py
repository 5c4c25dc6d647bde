"""What the core asks of a tokenizer: text.tokenizer.PromptTokenizer."""

from collections.abc import Sequence
from typing import Protocol

from bento_trtllm.text.detokenizer import Detokenizer


class AnswerTokenizer(Protocol):
    """Decodes an engine's tokens, and counts the tokens of a text."""

    def count(self, text: str) -> int:
        """The number of tokens in a text."""
        ...

    def ids(self, text: str) -> Sequence[int]:
        """The tokens that a text is."""
        ...

    def control(self, name: str) -> int | None:
        """The control token of that name."""
        ...

    def token_bytes(self, token: int, *, named: bool = False) -> bytes:
        """The bytes of one token; a control token has none, or with `named` those of its name."""
        ...

    def detokenizer(self, *, named: bool = False) -> Detokenizer:
        """A new incremental decoder."""
        ...
