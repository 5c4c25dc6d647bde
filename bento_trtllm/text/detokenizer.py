"""Token ids to text as they arrive, always in whole characters."""

import codecs
from collections.abc import Iterable, Sequence


class Detokenizer:
    """Decodes one sequence. All that it returns, joined, is what decoding all tokens at once gives.

    A token may end inside a character; its bytes then wait for the rest. Bytes that can never become a character turn
    into U+FFFD, as in the `tokenizers` library.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: Iterable[int]) -> str:
        """The text that these tokens complete."""
        table, known = self._bytes, len(self._bytes)
        # A model's vocabulary may be larger than its tokenizer's: the additional ids have no text.
        return self._decoder.decode(b"".join([table[i] for i in ids if i < known]))

    def flush(self) -> str:
        """U+FFFD if the sequence ended inside a character, otherwise nothing."""
        return self._decoder.decode(b"", final=True)
