"""A checkpoint's own chat templates, and the control tokens that they refer to by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Template

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.environment import compiled, literals
from bento_trtllm.text.files import read_json

# Where templates are stored: by transformers today, and by processors and tokenizers formerly.
FILE, FOLDER, OLD_FILE = "chat_template.jinja", "additional_chat_templates", "chat_template.json"
CONFIG, NAMES = "tokenizer_config.json", "special_tokens_map.json"
# The names that are used here; others (`rag`) are never chosen.
DEFAULT, WITH_TOOLS = "default", "tool_use"

MARK = "\ue000"  # in no template
_CALL = {"name": MARK, "arguments": {"x": "y"}}
_TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
_TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "123456789", "type": "function", "function": _CALL}]},
    {"role": "tool", "name": "f", "tool_call_id": "123456789", "content": "r"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "q"},
]
CALLED, SYSTEM = _TALK[:3], [{"role": "system", "content": MARK}, _TALK[0]]
# What a template may be asked to render. One that refuses some of these still renders others.
_PROBES = (_TALK[:1], [_TALK[0], _TALK[3]], [{"role": "system", "content": "s"}, *_TALK], _TALK)


@dataclass(frozen=True)
class Templates:
    """`sources` are the templates that may be chosen, by name; `names` the named control tokens (`bos_token`, …)."""

    sources: Mapping[str, str]
    names: Mapping[str, str]

    @classmethod
    def read(cls, directory: Path) -> "Templates":
        """Those of a checkpoint, which may have none. Raises CheckpointError for unreadable files."""
        config = read_json(directory / CONFIG)
        found = _sources(directory, config)
        sources = {name: source for name, source in found.items() if name in (DEFAULT, WITH_TOOLS) and source}
        if found and DEFAULT not in sources:
            raise CheckpointError(
                f"The checkpoint has chat templates ({', '.join(sorted(found))}), but none with the name {DEFAULT}."
            )
        return cls(sources, _names(directory, config))

    def written(self) -> Iterator[str]:
        """Texts that the templates can write themselves: their literals, and what they render for some messages."""
        for source in self.sources.values():
            yield from literals(source)
            template = compiled(source)
            for messages in _PROBES:
                for tools in (None, [_TOOL]):
                    yield self.try_out(template, messages, tools=tools)

    def try_out(self, template: Template, messages: Sequence[Any], **others: Any) -> str:
        """What a template renders for some messages; "" if it refuses them."""
        given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": True}
        try:
            return template.render({**self.names, **given, **others})
        except Exception:  # it is third-party code, and may fail in any way
            return ""


def _sources(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """By name. Separate files take precedence over JSON, as in transformers."""
    files = [directory / FILE, *sorted((directory / FOLDER).glob("*.jinja"))]
    found = {DEFAULT if path.name == FILE else path.stem: _text(path) for path in files if path.is_file()}
    for name, data in ((OLD_FILE, read_json(directory / OLD_FILE)), (CONFIG, config)):
        if DEFAULT in found:
            return found
        found = _named(data.get("chat_template"), directory / name) | found
    return found


def _named(value: Any, path: Path) -> dict[str, str]:
    """One template, or a list of named ones, as transformers used to write them."""
    if not value:
        return {}
    if isinstance(value, str):
        return {DEFAULT: value}
    items = value if isinstance(value, list) else [value]
    named: dict[str, str] = {}
    for item in items:
        name, source = (item.get("name"), item.get("template")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(source, str):
            raise CheckpointError(f"{path} has a chat_template that is neither a text nor a list of named ones")
        named[name] = source
    return named


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except ValueError as error:
        raise CheckpointError(f"{path} is not UTF-8: {error}") from error


def _names(directory: Path, config: Mapping[str, Any]) -> dict[str, str]:
    values = dict(config)
    # A tokenizer_config.json with added_tokens_decoder is complete by itself (transformers,
    # tokenization_utils_base.py).
    if "added_tokens_decoder" not in config:
        values |= read_json(directory / NAMES)
    contents = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in values.items()
        if name.endswith("_token")
    }
    return {name: text for name, text in contents.items() if isinstance(text, str)}
