"""Requests that ask for much, and how they are answered."""

import itertools
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from tests.support.schemas import ADMITTED, LARGE, doubled, many, nested

CHAT: dict[str, Any] = {"model": "demo-llama", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def chat(**fields: Any) -> bytes:
    return json.dumps(CHAT | fields).encode()


def user(content: Any) -> bytes:
    return chat(messages=[{"role": "user", "content": content}])


numbers = itertools.count()


def fresh(schema: Callable[[int], Any]) -> Callable[[], bytes]:
    """A request with a schema that nobody sent before."""
    return lambda: chat(response_format=form(schema(next(numbers))), max_tokens=400)


SIZE = 4_000_000
DATES = many(lambda k: {"type": "string", "format": "date-time"}, 200, required=False)
OPTIONAL = many(lambda k: {"type": "integer"}, 200, required=False)
ABUSE: dict[str, tuple[Callable[[], bytes], set[int]]] = {
    "nested arrays": (cache(lambda: chat(response_format=form(nested(3, {"type": "integer"}, minItems=128)))), {400}),
    "doubled references": (cache(lambda: chat(response_format=form(doubled(20)))), {400}),
    "900 optional properties": (cache(lambda: chat(response_format=form(LARGE["optional properties"][0]))), {400}),
    "an enum of 100,000": (
        cache(lambda: chat(response_format=form({"enum": [str(i) for i in range(100_000)]}))),
        {400, 413},
    ),
    "4 MB of text": (cache(lambda: user("word " * (SIZE // 5))), {400}),
    "4 MB of one letter": (cache(lambda: user("x" * SIZE)), {400}),
    "4 MB of digits": (cache(lambda: user(("1" * 209 + "a") * (SIZE // 210))), {400}),
    "4 MB of control tokens": (cache(lambda: user("<|eot_id|>" * (SIZE // 10))), {400}),
    "4 MB of parts": (cache(lambda: user([{"type": "text", "text": "a"}] * (SIZE // 32))), {413}),
    "4 MB of lists": (cache(lambda: b'{"messages": [' + b"[]," * (SIZE // 3) + b"[]]}"), {413}),
    "as many parts as are taken": (cache(lambda: user([{"type": "text", "text": "words "}] * 4_900)), {400}),
    "400 kB of text": (cache(lambda: user("word " * 80_000)), {400}),
    "as many biases as a body holds": (cache(lambda: chat(logit_bias={str(i): -100 for i in range(19_900)})), {400}),
    "all biases": (cache(lambda: chat(logit_bias={str(i): -100 for i in range(39_000)})), {413}),
    "1900 constants": (fresh(lambda i: {"oneOf": [{"const": 10_000 * i + k} for k in range(1900)]}), {200}),
    "200 dates": (fresh(lambda i: {"properties": {f"x{i}": DATES}}), {200}),
    "long strings": (fresh(lambda i: many(lambda k: {"type": "string", "maxLength": 10_000 - i - k}, 4)), {200}),
    "128 lengths": (fresh(lambda i: {"properties": {f"x{i}": ADMITTED["different lengths"]}}), {200}),
    "200 optional properties": (fresh(lambda i: {"properties": {f"x{i}": OPTIONAL}}), {200}),
    "a repeated group": (fresh(lambda i: {"type": "string", "pattern": f"^([^{chr(0x4E00 + i)}]+b?)+$"}), {200}),
    "many ways to divide a text": (cache(lambda: chat(guided_regex="([^a]{1,100}b?){1,100}")), {400}),
    "many names": (fresh(lambda i: {"enum": [f"{k * 7919 % 1009} words {i} {k}" for k in range(1000)]}), {200}),
}
