"""The intersection of schemas, as one schema."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bento_trtllm.grammar.assertions import assertions
from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.values import same

Schema = Mapping[str, Any]
Find = Callable[[str], Any]
MAX_STEPS = 100


class NothingLeft(GrammarError):
    """No value satisfies both schemas."""


def conjuncts(schema: Any) -> list[Any]:
    """The schemas that allOf combines, each once, and the keywords beside it; references are not resolved."""
    if not isinstance(schema, Mapping) or "allOf" not in schema:
        return [schema]
    beside = {key: value for key, value in schema.items() if key != "allOf"}
    found: list[Any] = []
    for part in [*([beside] if assertions(beside) else []), *schema["allOf"]]:
        found += [one for one in conjuncts(part) if one is not True and one != {} and one not in found]
    return found or [True]


def together(schemas: Sequence[Any], find: Find, at: str) -> Schema:
    """One schema for what all of them allow, without `$ref` and allOf of its own.

    Raises NothingLeft, or GrammarError for what cannot be combined, naming the keyword.
    """
    whole: dict[str, Any] = {}
    todo = list(reversed(schemas))
    seen: list[str] = []
    while todo:
        schema = todo.pop()
        if schema is True:
            continue
        if not isinstance(schema, Mapping):
            raise NothingLeft(f"{at or 'the schema'} allows nothing")
        if "allOf" in schema:
            todo += reversed(conjuncts(schema))
            continue
        rest = assertions(schema, at)
        target = rest.pop("$ref", None)
        # A schema that occurs twice counts once.
        if target is not None and target not in seen:
            seen.append(target)
            if len(seen) > MAX_STEPS:
                raise GrammarError(f"{at}/$ref leads through over {MAX_STEPS} others")
            if (found := find(target)) is None:
                raise GrammarError(f"{at}/$ref refers to nothing: {target[:80]}")
            todo.append(found)
        whole = _merged(whole, rest, at)
    return whole


def _merged(one: dict[str, Any], other: dict[str, Any], at: str) -> dict[str, Any]:
    merged = dict(one)
    for side, beside in ((one, other), (other, one)):
        if "prefixItems" in side and "items" in beside and "prefixItems" not in beside:
            raise GrammarError(f"{at}/prefixItems stands beside other items: that is not supported")
    if "properties" in one or "properties" in other:
        merged["properties"] = _properties(one, other, at)
    for key, value in other.items():
        if key == "properties":
            continue
        if key not in one:
            merged[key] = value
        elif key == "type":
            merged[key] = _types(one[key], value, at)
        elif key in LEAST:
            merged[key] = max(one[key], value)
        elif key in GREATEST:
            merged[key] = min(one[key], value)
        elif key == "required":
            merged[key] = list(dict.fromkeys([*one[key], *value]))
        elif key in INNER:
            merged[key] = False if False in (one[key], value) else _both(one[key], value)
        elif not same(one[key], value):
            raise GrammarError(f"{at}/{key} stands beside another {key}: that is not supported")
    return _constants(merged, one, other, at)


LEAST = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "uniqueItems"}
GREATEST = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
INNER = {"items", "additionalProperties"}


def _both(one: Any, other: Any) -> Any:
    """Lazily, since a subschema may lead back here."""
    parts = conjuncts({"allOf": [one, other]})
    return parts[0] if len(parts) == 1 else {"allOf": parts}


def _types(one: Any, other: Any, at: str) -> list[str] | str:
    ones, others = ([kinds] if isinstance(kinds, str) else kinds for kinds in (one, other))
    kinds = [kind for kind in ones if kind in others or (kind == "integer" and "number" in others)]
    kinds += [kind for kind in others if kind == "integer" and "number" in ones and kind not in kinds]
    if not kinds:
        raise NothingLeft(f"{at}/type allows nothing together with the type beside it")
    return kinds[0] if len(kinds) == 1 else kinds


def _properties(one: Schema, other: Schema, at: str) -> dict[str, Any]:
    """The properties of both; one that only one schema names is an additional property for the other."""
    merged: dict[str, Any] = {}
    sides = [(side.get("properties", {}), side.get("additionalProperties", True)) for side in (one, other)]
    for name in dict.fromkeys([*sides[0][0], *sides[1][0]]):
        parts = [own.get(name, further) for own, further in sides]
        if False in parts:
            if name in [*one.get("required", ()), *other.get("required", ())]:
                raise NothingLeft(f"{at}/properties/{name} is required, and forbidden by additionalProperties")
            continue
        merged[name] = _both(*parts)
    return merged


def _constants(merged: dict[str, Any], one: Schema, other: Schema, at: str) -> dict[str, Any]:
    """The values that both list."""
    spelled = [
        [side["const"]] if key == "const" else side["enum"]
        for side in (one, other)
        for key in ("const", "enum")
        if key in side
    ]
    if len(spelled) < 2:
        return merged
    values = [value for value in spelled[0] if all(any(same(value, v) for v in further) for further in spelled[1:])]
    if not values:
        raise NothingLeft(f"{at}/enum allows nothing together with the values beside it")
    return {**{key: value for key, value in merged.items() if key != "const"}, "enum": values}
