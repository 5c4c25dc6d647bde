"""What is known about a schema's values without listing them: their types, and whether two schemas overlap."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bento_trtllm.grammar.assertions import assertions
from bento_trtllm.grammar.references import find

# The most options of a oneOf that are compared pairwise.
MAX_COMPARED = 64


def is_kind(value: Any, kind: str) -> bool:
    """Whether a JSON value has a JSON Schema type."""
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    return canonical(one) == canonical(other)


def canonical(value: Any) -> str:
    """A key that is equal for equal values."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def all_apart(options: Sequence[Any], document: Any) -> bool:
    """Whether no value that is written for one of the schemas satisfies another one.

    Decided by their types, by a constant that each requires, or by a property that each requires and the other doesn't
    name: properties that a schema does not name are never written. Types and constants are looked up in tables, so the
    time grows with the number of options and not of pairs.
    """
    looks = [_Look(option, document) for option in options]
    keys = set[str]().union(*(look.constants for look in looks))
    groups: dict[frozenset[str], list[_Look]] = {}
    for look in looks:
        groups.setdefault(look.kinds, []).append(look)
    # For different kinds: each pair of groups, of which there are few.
    mixed = [
        (one, other)
        for i, one in enumerate(groups)
        for other in list(groups)[:i]
        if not (one and other) or one & other or {"integer", "number"} <= one | other
    ]
    together = [groups[one] + groups[other] for one, other in mixed]
    return all(_apart_by_parts(group, keys) for group in [*groups.values(), *together])


def _apart_by_parts(looks: "Sequence[_Look]", keys: Collection[str]) -> bool:
    """Whether some key is a different constant in each; if no key is in all of them, each pair must have one."""
    if len(looks) < 2:
        return True
    for key in keys:
        values = [value for look in looks for value in look.constants.get(key, ("",))]
        if "" not in values and len(set(values)) == len(values):
            return True
    if len(looks) > MAX_COMPARED:
        return False
    return all(
        (one.lacks(other) and other.lacks(one))
        or any(not one.constants[key] & other.constants[key] for key in one.constants.keys() & other.constants.keys())
        for i, one in enumerate(looks)
        for other in looks[:i]
    )


class _Look:
    """What distinguishes a schema's values: their types, and constants by property, as JSON."""

    def __init__(self, schema: Any, document: Any) -> None:
        schema = _look(schema, document)
        self.constants = {key: frozenset(map(canonical, v)) for key, v in _constants(schema, document).items()}
        kind = schema.get("type")
        kinds = [kind] if isinstance(kind, str) else kind or ()
        own = _constants(schema, document).get("")
        if not kinds and own is not None:
            kinds = [kind for kind in SIMPLE if any(is_kind(value, kind) for value in own)]
        self.kinds = frozenset(kinds)
        self._required = frozenset(schema.get("required", ()))
        self._named = self._required.union(schema.get("properties", ()))

    def lacks(self, other: "_Look") -> bool:
        """Whether both are objects, and the other one requires a property that this one does not have."""
        objects = self.kinds <= {"object"} and other.kinds <= {"object"}
        return objects and bool(self._required) and not other._required <= self._named


SIMPLE = ("string", "number", "boolean", "null", "array", "object")


def _look(schema: Any, document: Any) -> Mapping[str, Any]:
    """The schema itself, or the one that it refers to."""
    seen = set()
    while isinstance(schema, Mapping) and isinstance(target := schema.get("$ref"), str) and target not in seen:
        if assertions(schema).keys() != {"$ref"}:
            return {}
        seen.add(target)
        schema = find(document, target)
    return schema if isinstance(schema, Mapping) else {}


def _constants(schema: Mapping[str, Any], document: Any) -> dict[str, list[Any]]:
    """The values that are listed: the schema's own under "", and those of required properties."""
    found = {}
    for name in ["", *(schema.get("required") or ())]:
        part = schema if not name else _look((schema.get("properties") or {}).get(name), document)
        if "const" in part:
            found[name] = [part["const"]]
        elif isinstance(part.get("enum"), list):
            found[name] = part["enum"]
    return found
