"""Which tokens end an answer, and which of them first: TensorRT-LLM knows one end token, the others are stop words.

Files that cannot be read change nothing here: packing says elsewhere what is wrong with them.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.template import compiled, named_tokens, own_source

ANSWER = "\ue000"  # in no control token's name


def turn_end_first(directory: Path, eos_ids: Sequence[int]) -> tuple[int, ...]:
    """The end tokens of a checkpoint, the one that ends a chat's turn before the others.

    It is what the checkpoint's own chat template writes right after an answer, whether or not the generation config
    knows it; without a template the tokenizer's eos_token, if it is among them.
    """
    config = _read(directory / "tokenizer_config.json")
    added = _read(directory / "tokenizer.json").get("added_tokens") or ()
    ids = {token["content"]: token["id"] for token in added if isinstance(token, dict) and token.get("special")}
    turn_end = _written_after(directory, config, ids)
    if turn_end is None:
        own = ids.get(named_tokens(config).get("eos_token", ""))
        turn_end = own if own in eos_ids else None
    return tuple(eos_ids) if turn_end is None else tuple(dict.fromkeys([turn_end, *eos_ids]))


def _written_after(directory: Path, config: dict[str, Any], ids: dict[str, int]) -> int | None:
    """The first control token behind an answer in the checkpoint's own template."""
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
    try:
        if not ids or not (source := own_source(directory, config)):
            return None
        text = compiled(source).render(messages=messages, **named_tokens(config), add_generation_prompt=False)
    except (CheckpointError, TemplateError, TypeError, KeyError, ValueError):
        return None
    tail = text.rpartition(ANSWER)[2]
    # Longest first, so that no token hides a longer one that begins alike.
    found = re.search("|".join(map(re.escape, sorted(ids, key=len, reverse=True))), tail)
    return ids[found[0]] if found else None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
