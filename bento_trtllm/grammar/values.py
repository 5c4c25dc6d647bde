"""What is known of a schema's values without writing any: their types, and whether two schemas share one."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bento_trtllm.grammar.json import dumps

# Options of a oneOf of which each is compared with each.
MAX_COMPARED = 64


def is_kind(value: Any, kind: str) -> bool:
    """Whether a JSON value is of a JSON Schema type."""
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
            return isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def find(document: Any, reference: str) -> Any:
    """The part of a document that a reference (`#/$defs/name`) leads to; None if there is none."""
    node = document
    for step in reference[1:].split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node


def all_apart(options: Sequence[Any], document: Any) -> bool:
    """Whether no value can satisfy two of the schemas, by their types or by a constant that each requires.

    Kinds and constants are looked up in tables, so the time grows with the options and not with their pairs.
    """
    looks = [_Look(option, document) for option in options]
    keys = set[str]().union(*(look.constants for look in looks))
    groups: dict[frozenset[str], list[_Look]] = {}
    for look in looks:
        groups.setdefault(look.kinds, []).append(look)
    # Of different kinds: each pair of groups, of which there are few.
    mixed = [
        (one, other)
        for i, one in enumerate(groups)
        for other in list(groups)[:i]
        if not (one and other) or one & other or one | other == {"integer", "number"}
    ]
    together = [groups[one] + groups[other] for one, other in mixed]
    return all(_apart_by_constants(group, keys) for group in [*groups.values(), *together])


def _apart_by_constants(looks: "Sequence[_Look]", keys: Collection[str]) -> bool:
    """Whether a key is a different constant in each; and where no one key is in all, each pair has its own."""
    if len(looks) < 2:
        return True
    for key in keys:
        values = [value for look in looks for value in look.constants.get(key, ("",))]
        if "" not in values and len(set(values)) == len(values):
            return True
    if len(looks) > MAX_COMPARED:
        return False
    return all(
        any(not one.constants[key] & other.constants[key] for key in one.constants.keys() & other.constants.keys())
        for i, one in enumerate(looks)
        for other in looks[:i]
    )


class _Look:
    """What tells a schema's values from others: their types, and by property what they are, as JSON."""

    def __init__(self, schema: Any, document: Any) -> None:
        schema = _look(schema, document)
        kind = schema.get("type")
        self.kinds = frozenset([kind] if isinstance(kind, str) else filter(lambda k: isinstance(k, str), kind or ()))
        self.constants = {key: frozenset(map(dumps, values)) for key, values in _constants(schema, document).items()}


def _look(schema: Any, document: Any) -> Mapping[str, Any]:
    """The schema itself, or what it refers to."""
    seen = set()
    while isinstance(schema, Mapping) and isinstance(target := schema.get("$ref"), str) and target not in seen:
        seen.add(target)
        schema = find(document, target)
    return schema if isinstance(schema, Mapping) else {}


def _constants(schema: Mapping[str, Any], document: Any) -> dict[str, list[Any]]:
    """The values that are spelled out: the schema's own under "", and those of required properties."""
    found = {}
    for name in ["", *(schema.get("required") or ())]:
        part = schema if not name else _look((schema.get("properties") or {}).get(name), document)
        if "const" in part:
            found[name] = [part["const"]]
        elif isinstance(part.get("enum"), list):
            found[name] = part["enum"]
    return found
