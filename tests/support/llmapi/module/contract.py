"""The classes of TensorRT-LLM's LLM API as its source has them: fields, defaults, types, and how errors begin.

`api.json` beside this file says it, at one version (tests/support/llmapi/api.py).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

DATA = json.loads((Path(__file__).parent / "api.json").read_text("utf-8"))
CLASSES = DATA["classes"]
PLAIN: dict[str, Any] = {
    "int": int,
    "float": (int, float),
    "bool": bool,
    "str": str,
    "dict": dict,
    "list": list,
    "List": list,
}
Error = type[Exception]


class NotUpstream(AssertionError):
    """The fake, or our model, does what upstream's source does not have."""


def exported(module: str, *names: str) -> None:
    """Hold names against what a module of upstream's exports."""
    if missing := set(names) - set(DATA["exported"][module]):
        raise NotUpstream(f"tensorrt_llm.{module} has no {missing}")


def fail(owner: str, kind: Error, beginning: str, rest: str = "") -> Exception:
    """An error as a class raises it; one that does not begin as any of its own is an error of the fake."""
    if [kind.__name__, beginning] not in CLASSES[owner]["errors"]:
        raise NotUpstream(f"{owner} raises no {kind.__name__} that begins with {beginning!r}")
    return kind(beginning + rest)


def statistics(kind: str, **values: Any) -> dict[str, Any]:
    """One of the JSON objects that get_stats_async gives."""
    if odd := values.keys() - set(DATA["statistics"][kind]):
        raise NotUpstream(f"{kind} has no {odd}")
    return values


def methods(owner: str, kind: type) -> type:
    """Hold the public methods and properties of a fake class against upstream's, and their parameters."""
    known = CLASSES[owner]
    for name, value in vars(kind).items():
        if name.startswith("_") and name not in ("__aiter__", "__anext__"):
            continue
        if isinstance(value, property):
            if name not in known["properties"]:
                raise NotUpstream(f"{owner} has no property {name}")
        elif callable(value):
            if name not in known["methods"]:
                raise NotUpstream(f"{owner} has no method {name}")
            code = value.__code__
            ours = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
            if odd := set(ours) - known["methods"][name].keys():
                raise NotUpstream(f"{owner}.{name} has no {odd}")
    return kind


def attribute(owner: str, name: str) -> str:
    """Hold the name of what an instance has against upstream's."""
    if name not in CLASSES[owner]["attributes"]:
        raise NotUpstream(f"{owner} has no attribute {name}")
    return name


def enumeration(owner: str) -> Any:
    return Enum(owner, {name: ast.literal_eval(each["default"]) for name, each in CLASSES[owner]["fields"].items()})


def record(owner: str, check: Callable[[Any], None] = lambda each: None) -> Any:
    """A class of fields that are given by name; `check` looks at a new one."""
    fields = CLASSES[owner]["fields"]
    names = {alias: name for name, each in fields.items() for alias in each.get("aliases", ())}

    def init(self: Any, **given: Any) -> None:
        vars(self).update({name: _value(each.get("default")) for name, each in fields.items()})
        for name, value in given.items():
            known = names.get(name, name)
            if known not in fields or not fields[known].get("init", True):
                raise TypeError(f"{owner}.__init__() got an unexpected keyword argument '{name}'")
            if not fits(value, fields[known]["annotation"]):
                raise TypeError(f"{owner}.{name} is {value!r}, and should be {fields[known]['annotation']}")
            vars(self)[known] = value
        if missing := [name for name, each in fields.items() if "default" not in each and name not in vars(self)]:
            raise TypeError(f"{owner}.__init__() missing {missing}")
        check(self)

    return type(owner, (), {"__init__": init})


def _value(default: str | None) -> Any:
    """A default, where it is a plain one; what a factory makes is for the fake to say."""
    try:
        return None if default is None else ast.literal_eval(default)
    except ValueError:
        return [] if default in ("list()", "list") else None


def fits(value: Any, annotation: str | None) -> bool:
    """Whether a value is of a type, as far as the type is made of Python's own."""
    return annotation is None or _fits(value, ast.parse(annotation, mode="eval").body)


def _fits(value: Any, kind: ast.expr) -> bool:
    match kind:
        case ast.Constant(value=None):
            return value is None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(value, left) or _fits(value, right)
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return value is None or _fits(value, inner)
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=inner)):
            return any(_fits(value, each) for each in inner)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            return value in [each.value for each in _elements(inner)]
        case ast.Subscript(value=ast.Name(id="List" | "list"), slice=inner):
            return isinstance(value, list) and all(_fits(each, inner) for each in value)
        case ast.Name(id=name) if name in PLAIN:
            # Only bool is one: True is an int to Python, and none to whoever counts tokens.
            return isinstance(value, PLAIN[name]) and (name == "bool" or not isinstance(value, bool))
        case _:
            return not isinstance(value, int | float | str)


def _elements(node: ast.expr) -> Iterator[Any]:
    yield from node.elts if isinstance(node, ast.Tuple) else [node]
