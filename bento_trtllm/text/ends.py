"""A checkpoint's end tokens, in order: TensorRT-LLM takes one end token, the others become stop words.

Unreadable files are ignored here: packing reports them elsewhere.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.environment import compiled
from bento_trtllm.text.files import read_json
from bento_trtllm.text.templates import DEFAULT, MARK, Templates


def end_tokens(directory: Path, eos_ids: Sequence[int]) -> tuple[int, ...]:
    """All end tokens of a checkpoint, first the one that ends a chat's turn, with which answers usually end.

    That is what the checkpoint's own chat template writes right after an answer; without a template it is the
    tokenizer's eos_token. Either is included even if the configs, which `eos_ids` come from, do not name it.
    """
    try:
        added = read_json(directory / "tokenizer.json").get("added_tokens") or ()
        # Also those that are not special: a template can turn them into control tokens.
        ids = {token["content"]: token["id"] for token in added if isinstance(token, dict) and token.get("content")}
        templates = Templates.read(directory)
    except (CheckpointError, KeyError, TypeError, OSError):
        return tuple(dict.fromkeys(eos_ids))
    own = ids.get(templates.names.get("eos_token", ""))
    turn_end = _written_after_answer(templates, ids)
    return tuple(dict.fromkeys(i for i in (own if turn_end is None else turn_end, *eos_ids, own) if i is not None))


def _written_after_answer(templates: Templates, ids: Mapping[str, int]) -> int | None:
    """The first control token after an answer in the checkpoint's own template."""
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
    if not ids or DEFAULT not in templates.sources:
        return None
    try:
        template = compiled(templates.sources[DEFAULT])
    except CheckpointError:
        return None
    _, answer, tail = templates.try_out(template, messages, add_generation_prompt=False).rpartition(MARK)
    # Longest first, so that no token hides a longer one that begins alike.
    found = re.search("|".join(map(re.escape, sorted(ids, key=len, reverse=True))), tail) if answer else None
    return ids[found[0]] if found else None
