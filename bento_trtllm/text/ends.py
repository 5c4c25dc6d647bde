"""Which tokens end an answer, and which of them first: TensorRT-LLM knows one end token, the others are stop words."""

from collections.abc import Sequence
from pathlib import Path

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer


def turn_end_first(directory: Path, eos_ids: Sequence[int]) -> tuple[int, ...]:
    """The end tokens of a checkpoint, the one that ends a chat's turn before the others.

    It is what the checkpoint's own chat template writes right after an answer, whether or not the generation config
    knows it; without a template the tokenizer's eos_token, if it is among them.
    """
    try:
        tokenizer = PromptTokenizer(directory)
        turn_end = ChatTemplate(directory, tokenizer).turn_end()
    except (CheckpointError, ValueError):
        return tuple(eos_ids)  # packing says elsewhere what is wrong with these files
    if turn_end is None:
        named = tokenizer.config.get("eos_token")
        own = tokenizer.special_ids.get(named["content"] if isinstance(named, dict) else named or "")
        turn_end = own if own in eos_ids else None
    return tuple(eos_ids) if turn_end is None else tuple(dict.fromkeys([turn_end, *eos_ids]))
