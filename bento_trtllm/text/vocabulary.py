"""The bytes of each token of a byte-level vocabulary. Needs only the library `tokenizers`.

Also copied beside Triton's postprocessing model, which cannot import this package.
"""

from __future__ import annotations

from tokenizers import Tokenizer


def byte_alphabet() -> dict[str, int]:
    """The character that byte-level BPE writes for each byte (GPT-2's encoder.py, `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return alphabet


def token_bytes(tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> list[bytes]:
    """Bytes by token id; empty for special tokens, if skipped, and for ids without a token."""
    alphabet = byte_alphabet()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    added = tokenizer.get_added_tokens_decoder()
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    byte_of = alphabet.__getitem__
    for token, i in vocabulary.items():
        try:
            table[i] = bytes(map(byte_of, token))
        except KeyError:
            table[i] = token.encode()
    for i, named in added.items():
        table[i] = b"" if skip_special_tokens and named.special else named.content.encode()
    return table
