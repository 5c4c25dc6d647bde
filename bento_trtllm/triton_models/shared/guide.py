"""Guided decoding: what the text of an answer must be, in TensorRT-LLM's terms."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from faults import RequestError

KIND, TEXT = "guided_decoding_guide_type", "guided_decoding_guide"
# TensorRT-LLM has "structural_tag" too.
GUIDES = ("json", "json_schema", "regex", "ebnf_grammar")
# The most of a guide; the service's own are far shorter.
MAX_CHARACTERS = 2**18


@dataclass(frozen=True)
class Guide:
    """One of GUIDES, and the guide itself for all but "json"."""

    kind: str
    text: str


def read_guide(kind: str, text: str, engine: str) -> Guide | None:
    """The guide of a request, if it has one; "" is a tensor that was not sent. Raises RequestError.

    `engine` is what people call it.
    """
    if not kind:
        if text:
            raise RequestError(KIND, f"{KIND} is missing, and {TEXT} is there.")
        return None
    if kind not in GUIDES:
        raise RequestError(KIND, f"{KIND} is {kind}: the {engine} engine takes {', '.join(GUIDES)}.")
    if kind != "json" and not text:
        raise RequestError(TEXT, f"{TEXT} is missing, and {KIND} is {kind}.")
    if len(text) > MAX_CHARACTERS:
        raise RequestError(TEXT, f"{TEXT} has {len(text)} characters, and at most {MAX_CHARACTERS} are taken.")
    if fault := guide_fault(kind, text):
        raise RequestError(TEXT, f"{TEXT} is no {kind}: {fault}.")
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
