"""Jinja as transformers sets it up for chat templates (5.24, utils/chat_template_utils.py), and analysis of sources."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, Template, meta, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bento_trtllm.errors import CheckpointError


class GenerationBlocks(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks the model's own text for training: renders just its body."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own way)

    def parse(self, parser: Parser) -> nodes.Node:
        """Like transformers' AssistantTracker: a call block, so that variables set inside stay local."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @staticmethod
    def _body(caller: Callable[[], str]) -> str:
        return caller()


def compiled(source: str) -> Template:
    """A template with everything that transformers provides. Raises CheckpointError."""
    try:
        return _environment().from_string(source)
    except (TemplateError, RecursionError) as error:
        raise _unreadable(error) from error


def variables(source: str) -> frozenset[str]:
    """The names of the variables that a template expects. Raises CheckpointError."""
    return frozenset(meta.find_undeclared_variables(_parsed(source)))


def literals(source: str) -> set[str]:
    """The literal texts in a template: outside its tags, and as strings within. Raises CheckpointError."""
    tree = _parsed(source)
    plain = {node.data for node in tree.find_all(nodes.TemplateData)}
    return plain | {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}


def _parsed(source: str) -> nodes.Template:
    try:
        return _environment().parse(source)
    except (TemplateError, RecursionError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> CheckpointError:
    return CheckpointError(f"The checkpoint's chat template cannot be read: {error}")


@lru_cache(1)
def _environment() -> Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlocks, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_raise, strftime_now=_now)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON; Jinja's own filter escapes it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
