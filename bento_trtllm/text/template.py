"""From a user's messages to the prompt that the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Template

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.environment import compiled, variables
from bento_trtllm.text.prompt import PROMPT_TEMPLATE
from bento_trtllm.text.templates import CALLED, DEFAULT, MARK, SYSTEM, WITH_TOOLS, Templates
from bento_trtllm.text.tokenizer import LLAMA3_TOKENS, PromptTokenizer
from bento_trtllm.text.tools import as_text

LLAMA3 = Path(__file__).with_name("llama3.jinja")


@dataclass(frozen=True)
class _Source:
    """A template, and what it supports."""

    template: Template
    knows_tools: bool
    knows_calls: bool

    @classmethod
    def read(cls, source: str, templates: Templates) -> "_Source":
        template = compiled(source)
        return cls(template, "tools" in variables(source), MARK in templates.try_out(template, CALLED))


class ChatTemplate:
    """Renders Llama 3's prompt format, or the checkpoint's own chat template if it is not a Llama 3.

    Raises CheckpointError if the checkpoint has neither Llama 3's control tokens nor a template.
    """

    def __init__(self, directory: Path, tokenizer: PromptTokenizer) -> None:
        self._tokenizer = tokenizer
        templates = Templates.read(directory)
        sources = dict(templates.sources)
        if not sources:
            if not tokenizer.is_llama3:
                raise CheckpointError(
                    "The checkpoint has neither a chat template nor Llama 3's control tokens: pack an instruct model."
                )
            sources[DEFAULT] = LLAMA3.read_text("utf-8")
        self._names = templates.names
        self._default = _Source.read(sources[DEFAULT], templates)
        other = sources.get(WITH_TOOLS)
        self._with_tools = self._default if other is None else _Source.read(other, templates)
        with_system = templates.try_out(self._default.template, SYSTEM)
        self._knows_system, self._refuses_system = MARK in with_system, not with_system
        # A Llama 3 fine-tuned to another format still has Llama 3's tokens.
        self._is_llama3 = tokenizer.is_llama3 and LLAMA3_TOKENS[1] in sources[DEFAULT]

    def prompt(self, user_prompt: str, system_prompt: str) -> list[int]:
        """Token ids of a single user prompt, with PROMPT_TEMPLATE on a Llama 3."""
        if not self._is_llama3:
            if self._refuses_system:
                return self.chat([{"role": "user", "content": "\n\n".join(filter(None, [system_prompt, user_prompt]))}])
            messages = [
                {"role": "system", "content": system_prompt},
                {"role": "user", "content": user_prompt},
            ]
            return self.chat(messages)
        self._tokenizer.check_length(len(user_prompt) + len(system_prompt))
        protect = self._tokenizer.protect
        text = PROMPT_TEMPLATE.format(system_prompt=protect(system_prompt), user_prompt=protect(user_prompt))
        return self._tokenizer.encode(text)

    def chat(
        self,
        messages: list[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        *,
        continued: bool = False,
        **others: Any,
    ) -> list[int]:
        """Token ids of a conversation, with the checkpoint's own template. Raises CheckpointError and TextTooLong.

        Control tokens in the messages and the variables become plain characters. If the template does not support
        tools, they are described as text in a message, and so are earlier calls. With `continued` the prompt ends
        within the last message, so that the model continues it.
        """
        # Before any other work.
        self._tokenizer.check_length(_characters(messages) + _characters(tools))
        source = self._with_tools if tools else self._default
        shown = tools or None
        if shown and not source.knows_tools:
            messages, shown = as_text(messages, shown, system=self._knows_system), None
        elif not source.knows_calls:
            messages = as_text(messages)
        if continued:
            messages = _marked(messages)
        # All variables that transformers passes, even if they are None: templates test whether they are defined.
        given = {"messages": messages, "tools": shown, "documents": None, **others}
        guarded = {name: self._guard(value) for name, value in given.items()}
        try:
            text = source.template.render({**self._names, "add_generation_prompt": not continued, **guarded})
        except Exception as error:  # a template is third-party code, and may fail in any way
            raise CheckpointError(f"The checkpoint's chat template refused the messages: {error}") from error
        if continued:
            text = _to_mark(text)
        return self._tokenizer.encode(text)

    def _guard(self, value: Any) -> Any:
        """The value, with the control tokens in all its strings marked as plain characters."""
        if isinstance(value, str):
            return self._tokenizer.protect(value)
        if isinstance(value, dict):
            return {self._guard(key): self._guard(item) for key, item in value.items()}
        return [self._guard(item) for item in value] if isinstance(value, list) else value


def _marked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages, the last of which has a mark at its end, and a space, which tells whether the template trims it."""
    return [*messages[:-1], messages[-1] | {"content": f"{messages[-1]['content']}{MARK} "}]


def _to_mark(text: str) -> str:
    """A prompt up to the end of its last message, as transformers' continue_final_message has it."""
    before, found, after = text.rpartition(MARK)
    if not found:
        raise CheckpointError("The last message cannot be continued: the chat template does not show it.")
    return before if after.startswith(" ") else before.rstrip()


def _characters(value: Any) -> int:
    """The total length of all strings in a value, not counting names."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0
