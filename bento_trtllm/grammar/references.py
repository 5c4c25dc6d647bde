"""Resolves references within a schema document: JSON Pointers (RFC 6901), `$anchor`, and `$id` (RFC 3986)."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from bento_trtllm.grammar.shape import NAMED, ONE, SEVERAL


def find(document: Any, pointer: str) -> Any:
    """The part of a document that a pointer (`#/$defs/name`) refers to; None if there is none."""
    if pointer != "#" and not pointer.startswith("#/"):
        return None
    node = document
    for step in pointer[1:].split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            plain = key.isascii() and key.isdigit() and len(key) < 6 and key == str(int(key))
            node = node[int(key)] if plain and int(key) < len(node) else None
        else:
            node = node.get(key) if isinstance(node, Mapping) else None
        if node is None:
            return None
    return node


def with_pointers(document: Any) -> Any:
    """The same document, with each `$ref` to one of its anchors or addresses as a pointer from its root.

    References out of the document stay as they are.
    """
    if not isinstance(document, Mapping):
        return document
    places: dict[str, str] = {}
    _note(document, "", "#", places)
    return _replaced(document, "", places) if places.keys() - {""} else document


def _base(schema: Mapping[str, Any], base: str) -> str:
    """The address of what stands in a schema."""
    own = schema.get("$id")
    try:
        return urldefrag(urljoin(base, own))[0] if isinstance(own, str) else base
    except ValueError:  # not an address at all
        return base


def _note(schema: Any, base: str, pointer: str, places: dict[str, str]) -> None:
    """Write down what has an address, and where it is."""
    if not isinstance(schema, Mapping):
        return
    base = _base(schema, base)
    if pointer == "#" or "$id" in schema:
        places.setdefault(base, pointer)
    if isinstance(schema.get("$anchor"), str):
        places.setdefault(f"{base}#{schema['$anchor']}", pointer)
    for path, part in _schemas(schema):
        _note(part, base, f"{pointer}/{'/'.join(map(_escape, path))}", places)


def _replaced(schema: Any, base: str, places: Mapping[str, str]) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    base = _base(schema, base)
    made = dict(schema)
    if isinstance(target := schema.get("$ref"), str):
        made["$ref"] = _pointer(target, base, places)
    for path, part in _schemas(schema):
        new = _replaced(part, base, places)
        if len(path) == 1:
            made[path[0]] = new
            continue
        # Containers of a changed part are copied the first time.
        if made[path[0]] is schema[path[0]]:
            several = schema[path[0]]
            made[path[0]] = dict(several) if isinstance(several, Mapping) else list(several)
        made[path[0]][path[1] if isinstance(several, Mapping) else int(path[1])] = new
    return made


def _pointer(target: str, base: str, places: Mapping[str, str]) -> str:
    try:
        address, fragment = urldefrag(urljoin(base, target) if base or not target.startswith("#") else target)
    except ValueError:
        return target
    if (anchored := f"{address}#{unquote(fragment)}") in places:
        return places[anchored]
    if address in places and (not fragment or fragment.startswith("/")):
        return places[address] + fragment
    return target


def _schemas(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The schemas directly within one, and where."""
    for key, value in schema.items():
        if key in ONE:
            yield (key,), value
        elif key in SEVERAL and isinstance(value, list):
            yield from (((key, str(i)), part) for i, part in enumerate(value))
        elif key in NAMED and isinstance(value, Mapping):
            yield from (((key, name), part) for name, part in value.items())


def _escape(step: str) -> str:
    return step.replace("%", "%25").replace("~", "~0").replace("/", "~1")
