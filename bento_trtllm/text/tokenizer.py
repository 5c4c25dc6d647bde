"""The checkpoint's tokenizer, on the side of the service: prompts to token ids, tokens to bytes."""

import json
import re
import secrets
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bento_trtllm.text.detokenizer import Detokenizer
from bento_trtllm.text.vocabulary import token_bytes

# The tokens that PROMPT_TEMPLATE is written with.
LLAMA3_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

# The system prompt and the template's own words are the same in most requests, and most of what there is to encode.
SHORT, MOST_PARTS = 2048, 128


class PromptTokenizer:
    """Encodes prompts in which only the template's own control tokens are control tokens.

    `protect` marks the control tokens that stand in a user's words, before the words enter a template;
    `encode` takes the marks out again and reads those tokens as plain characters.
    """

    def __init__(self, directory: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        special = {
            token.content: i
            for i, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special and token.content
        }
        self.special_ids = special
        # Longest first, so that no token hides a longer one that begins alike.
        names = sorted(map(re.escape, special), key=len, reverse=True)
        self._special = re.compile("|".join(names) or r"(?!)")
        # Unknown to users, so that no text of theirs can hold it.
        self._mark = f"\ue000{secrets.token_hex(8)}\ue000"
        self._bytes = token_bytes(self._tokenizer)
        self._encode_part = lru_cache(MOST_PARTS)(self._encode_now)
        self.config: dict[str, Any] = {}
        if (path := directory / "tokenizer_config.json").is_file():
            self.config = json.loads(path.read_text("utf-8"))

    @property
    def is_llama3(self) -> bool:
        """Whether the vocabulary has the tokens that Llama 3's prompt format is written with."""
        return all(token in self.special_ids for token in LLAMA3_TOKENS)

    def protect(self, text: str) -> str:
        """Mark each control token in a user's text as plain characters."""
        return self._special.sub(lambda m: m[0][0] + self._mark + m[0][1:], text)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a filled-in template. Adds no token that the template does not write."""
        ids: list[int] = []
        start = 0
        for match in self._special.finditer(prompt):
            ids += self._encode_plain(prompt[start : match.start()])
            ids.append(self.special_ids[match[0]])
            start = match.end()
        return [*ids, *self._encode_plain(prompt[start:])]

    def encode_text(self, text: str) -> list[int]:
        """Token ids of bare text; control tokens in it are plain characters."""
        return [*self._encode_plain(text)]

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; a control token has none."""
        return self._bytes[token] if token < len(self._bytes) else b""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, all at once, without control tokens."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def detokenizer(self) -> Detokenizer:
        """A new incremental decoder."""
        return Detokenizer(self._bytes)

    def _encode_plain(self, text: str) -> Sequence[int]:
        return self._encode_part(text) if len(text) <= SHORT else self._encode_now(text)

    def _encode_now(self, text: str) -> Sequence[int]:
        text = text.replace(self._mark, "")
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else ()
