"""Guided decoding: what the text of an answer must be, in TensorRT-LLM's terms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# TensorRT-LLM has "structural_tag" too.
GUIDES = ("json", "json_schema", "regex", "ebnf_grammar")
# Of a guide. The service's own are far below.
MAX_CHARACTERS = 2**18


@dataclass(frozen=True)
class Guide:
    """A kind of GUIDES, and for all but "json" the guide itself."""

    kind: str
    text: str


def read_guide(tensor: Callable[[str], npt.NDArray[np.generic] | None]) -> Guide | None:
    """The guide of a request, if it has one. Raises ValueError, naming the tensor."""
    texts: dict[str, str] = {}
    for name in ("guided_decoding_guide_type", "guided_decoding_guide"):
        value = tensor(name)
        if value is None:
            continue
        if value.size != 1:
            raise ValueError(f"{name} holds {value.size} values: send one.")
        try:
            texts[name] = value.reshape(-1)[0].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is not UTF-8.") from error
    kind, text = texts.get("guided_decoding_guide_type", ""), texts.get("guided_decoding_guide", "")
    if not kind:
        if text:
            raise ValueError("guided_decoding_guide_type is missing, and guided_decoding_guide is there.")
        return None
    if kind not in GUIDES:
        raise ValueError(f"guided_decoding_guide_type is {kind}: the OpenVINO engine takes {', '.join(GUIDES)}.")
    if kind != "json" and not text:
        raise ValueError(f"guided_decoding_guide is missing, and guided_decoding_guide_type is {kind}.")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"guided_decoding_guide has {len(text)} characters, and at most {MAX_CHARACTERS} are taken.")
    if fault := guide_fault(kind, text):
        raise ValueError(f"guided_decoding_guide is no {kind}: {fault}.")
    return Guide(kind, text)


def guide_fault(kind: str, text: str) -> str | None:
    """What is plainly wrong with a guide. The engine itself would fail in a step, for all of its requests."""
    try:
        if kind == "json_schema":
            return None if isinstance(json.loads(text), dict) else "it must be an object"
        if kind == "regex":
            re.compile(text)
        if kind == "ebnf_grammar":
            return ebnf_fault(text)
    except (ValueError, re.error) as error:
        return str(error)
    return None


def ebnf_fault(text: str) -> str | None:
    """Rules without `root`, or one that names a rule that is not there."""
    # Literals, character classes and comments aside, what is left are names and signs.
    bare = re.sub(r'"(?:\\.|[^"\\\n])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*', " ", text)
    rules = set(re.findall(r"([A-Za-z_][\w.-]*)\s*::=", bare))
    if "root" not in rules:
        return "it has no rule root"
    unknown = set(re.findall(r"[A-Za-z_][\w.-]*", re.sub(r"\{[^}]*\}", " ", bare))) - rules
    return f"there is no rule {min(unknown)}" if unknown else None
