"""From what a user says to the prompt the model reads."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.prompt import PROMPT_TEMPLATE
from bento_trtllm.text.tokenizer import PromptTokenizer

FILE = "chat_template.jinja"
LLAMA3 = Path(__file__).with_name("llama3.jinja")


class ChatTemplate:
    """Fills in Llama 3's prompt format, or the checkpoint's own chat template where it is no Llama 3.

    Raises CheckpointError where the checkpoint has neither Llama 3's control tokens nor a template.
    """

    def __init__(self, directory: Path, tokenizer: PromptTokenizer) -> None:
        self._tokenizer = tokenizer
        source = own_source(directory, tokenizer.config)
        if not source:
            if not tokenizer.is_llama3:
                raise CheckpointError(
                    "The checkpoint has neither a chat template nor Llama 3's control tokens: pack an instruct model."
                )
            source = LLAMA3.read_text("utf-8")
        self._template = compiled(source)
        self._special = named_tokens(tokenizer.config)

    def prompt(self, user_prompt: str, system_prompt: str) -> list[int]:
        """Token ids of one question, with PROMPT_TEMPLATE on a Llama 3."""
        if not self._tokenizer.is_llama3:
            messages = [
                {"role": "system", "content": system_prompt},
                {"role": "user", "content": user_prompt},
            ]
            return self.chat(messages)
        self._tokenizer.check_length(len(user_prompt) + len(system_prompt))
        protect = self._tokenizer.protect
        text = PROMPT_TEMPLATE.format(system_prompt=protect(system_prompt), user_prompt=protect(user_prompt))
        return self._tokenizer.encode(text)

    def chat(self, messages: list[dict[str, Any]], **variables: Any) -> list[int]:
        """Token ids of a conversation, with the checkpoint's own template. Raises CheckpointError, and TextTooLong.

        Control tokens in the messages and the variables (`tools`) become plain characters.
        """
        # Before anything is done with it.
        self._tokenizer.check_length(_characters(messages))
        guarded = {name: self._guard(value) for name, value in {"messages": messages, **variables}.items()}
        try:
            text = self._template.render(**guarded, **self._special, add_generation_prompt=True)
        except (TemplateError, TypeError) as error:
            raise CheckpointError(f"The checkpoint's chat template refused the messages: {error}") from error
        return self._tokenizer.encode(text)

    def _guard(self, value: Any) -> Any:
        """The value with the control tokens in all its strings marked as plain characters."""
        if isinstance(value, str):
            return self._tokenizer.protect(value)
        if isinstance(value, dict):
            return {self._guard(key): self._guard(item) for key, item in value.items()}
        return [self._guard(item) for item in value] if isinstance(value, list) else value


def own_source(directory: Path, config: Mapping[str, Any]) -> str | None:
    """The checkpoint's own template; `config` is its tokenizer_config.json."""
    source = config.get("chat_template")
    if (path := directory / FILE).is_file():
        source = path.read_text("utf-8-sig")
    if isinstance(source, list):  # several templates by name, as transformers once wrote them
        source = {item["name"]: item["template"] for item in source}.get("default")
    return source or None


def compiled(source: str) -> Template:
    """A template with what transformers gives to one (utils/chat_template_utils.py). Raises CheckpointError."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_raise, strftime_now=lambda form: datetime.now().strftime(form))
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise CheckpointError(f"The checkpoint's chat template cannot be read: {error}") from error


def named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The control tokens that templates know by a name, and how each is written."""
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    special = {name: value for name in names if (value := config.get(name))}
    return {name: value["content"] if isinstance(value, dict) else value for name, value in special.items()}


def _characters(value: Any) -> int:
    """How long all texts in a value are, names aside."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    """JSON as it is; Jinja's own filter escapes it for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)
