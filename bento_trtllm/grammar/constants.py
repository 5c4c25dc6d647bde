"""Values that a schema lists (const, enum), and which of them the keywords beside them allow."""

from collections.abc import Mapping, Sequence
from typing import Any

from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.grammar import ROOT, Grammar, GrammarError
from bento_trtllm.grammar.intersection import NothingLeft
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.numbers import exact, read_range
from bento_trtllm.grammar.strings import string
from bento_trtllm.grammar.values import canonical, is_kind

NUMERIC = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
LENGTHS = {"minLength", "maxLength"}
COUNTS = {"Items": list, "Properties": dict}
KNOWN = {"const", "enum", "type", "required", "uniqueItems", "format", "pattern", *NUMERIC, *LENGTHS}
KNOWN |= {f"{end}{what}" for end in ("min", "max") for what in COUNTS}


def spelled_out(schema: Mapping[str, Any], at: str) -> list[str]:
    """The values of const or enum that the keywords beside it allow, as JSON. Raises GrammarError."""
    key = "const" if "const" in schema else "enum"
    for other in schema.keys() - KNOWN:
        raise GrammarError(f"{at}/{other} is not supported beside {key}")
    values = [schema["const"]] if "const" in schema else schema["enum"]
    if "const" in schema and "enum" in schema:
        values = [value for value in values if canonical(value) in map(canonical, schema["enum"])]
    checks = {keyword: schema[keyword] for keyword in schema.keys() - {"const", "enum"}}
    grammars = [_grammar({word: schema[word]}, at) for word in ("pattern", "format") if word in schema]
    try:
        found = [dumps(value) for value in values if not checks or _allowed(value, checks, grammars)]
    except ValueError as error:
        raise GrammarError(f"{at}/{key} has a value that is not JSON") from error
    if not found:
        raise NothingLeft(f"{at}/{key} allows no value")
    return found


def _grammar(schema: Mapping[str, Any], at: str) -> Grammar:
    """For strings."""
    rules = Rules()
    whole = string(rules, schema, at)
    return Grammar({ROOT: whole, **rules.rules})


def _allowed(value: Any, schema: Mapping[str, Any], grammars: Sequence[Grammar]) -> bool:
    kinds = schema.get("type", ())
    if kinds and not any(is_kind(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, str):
        count = len(value)
        right = schema.get("minLength", 0) <= count <= schema.get("maxLength", count)
        return right and all(_is_text(value, grammar) for grammar in grammars)
    if is_kind(value, "number"):
        number = exact(value)
        return read_range(schema).has(number) and not ("multipleOf" in schema and number % exact(schema["multipleOf"]))
    for what, kind in COUNTS.items():
        if isinstance(value, kind):
            count = len(value)
            if not schema.get(f"min{what}", 0) <= count <= schema.get(f"max{what}", count):
                return False
    if isinstance(value, list):
        return not schema.get("uniqueItems") or len(set(map(canonical, value))) == len(value)
    return not isinstance(value, dict) or value.keys() >= set(schema.get("required", ()))


def _is_text(value: str, grammar: Grammar) -> bool:
    ending = Ending(grammar)
    return ending.feed(dumps(value)) and ending.complete
