"""What is known of a schema's values without writing any: their types, and whether two schemas share one."""

from collections.abc import Mapping
from typing import Any

from bento_trtllm.grammar.json import dumps


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


def apart(one: Any, other: Any, document: Any) -> bool:
    """Whether no value can satisfy both schemas, by their types or by a constant that each requires."""
    one, other = _look(one, document), _look(other, document)
    kinds = [{kind} if isinstance(kind := s.get("type"), str) else set(kind or ()) for s in (one, other)]
    if all(kinds) and not kinds[0] & kinds[1] and kinds[0] | kinds[1] != {"integer", "number"}:
        return True
    mine, theirs = _constants(one, document), _constants(other, document)
    return any(not set(map(dumps, mine[key])) & set(map(dumps, theirs[key])) for key in mine.keys() & theirs.keys())


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
