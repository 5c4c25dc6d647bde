"""A tokenizer.json as a GGUF file holds it: every token's text and type, and the merges.

The service sends token ids, so the engine never tokenizes; but the GGUF reader wants a tokenizer, and
structured output needs the exact text of every token.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType
from pydantic import BaseModel, ValidationError

from bento_trtllm.errors import CheckpointError


class _Model(BaseModel):
    type: str
    vocab: dict[str, int]
    # Old files join the two halves of a merge with a space, new ones keep them apart.
    merges: list[str | tuple[str, str]]
    byte_fallback: bool | None = False


class _AddedToken(BaseModel):
    id: int
    content: str
    special: bool = False


class _TokenizerFile(BaseModel):
    model: _Model
    added_tokens: list[_AddedToken] = []
    pre_tokenizer: dict[str, Any] | None = None


@dataclass(frozen=True)
class Vocabulary:
    """One entry a row of the embedding in `tokens` and `types`; texts are in GPT-2's byte-level alphabet.

    `pre` is llama.cpp's name of the split into words.
    """

    tokens: list[str]
    types: list[TokenType]
    merges: list[str]
    pre: str


def read_vocabulary(path: Path, size: int) -> Vocabulary:
    """The vocabulary of a tokenizer.json, padded to `size` tokens.

    Raises CheckpointError unless it is a byte-level BPE of at most `size` tokens.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
        kind, fallback = data["model"].get("type", "BPE"), data["model"].get("byte_fallback")
        kinds = _pre_tokenizers(data.get("pre_tokenizer"))
        if kind != "BPE" or fallback or "ByteLevel" not in kinds:
            found = "SentencePiece, as Llama 2's" if fallback else f"a {kind} without bytes"
            raise CheckpointError(
                f"{path} is not a byte-level BPE tokenizer, as Llama 3's is, but {found}: "
                "the OpenVINO engine cannot run it"
            )
        file = _TokenizerFile.model_validate(data)
    except (KeyError, TypeError, AttributeError, ValueError, ValidationError) as error:
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {type(error).__name__}") from error
    if not file.model.vocab or not file.model.merges:
        raise CheckpointError(f"{path} has no tokens or no merges")
    texts = {id_: text for text, id_ in file.model.vocab.items()}
    types = dict.fromkeys(texts, TokenType.NORMAL)
    for token in file.added_tokens:
        texts[token.id] = token.content
        types[token.id] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    if max(texts) >= size:
        raise CheckpointError(
            f"{path} has a token with the id {max(texts)}, but the model's vocabulary has {size:,} tokens"
        )
    return Vocabulary(
        tokens=[texts.get(i, f"[PAD{i}]") for i in range(size)],
        types=[types.get(i, TokenType.UNUSED) for i in range(size)],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in file.model.merges],
        pre="smollm" if "Digits" in kinds else "llama-bpe" if "Split" in kinds else "gpt-2",
    )


def _pre_tokenizers(data: dict[str, Any] | None) -> set[str]:
    if data is None:
        return set()
    return {str(data["type"])}.union(*(_pre_tokenizers(inner) for inner in data.get("pretokenizers", [])))
