"""Everything about text that is read from a checkpoint: tokenizer, chat templates, sampling defaults."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.defaults import Defaults
from bento_trtllm.text.prompt import SYSTEM_PROMPT
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer


@dataclass(frozen=True)
class Text:
    """Packing checks exactly what serving reads, so that whatever packs can be served."""

    tokenizer: PromptTokenizer
    template: ChatTemplate
    defaults: Defaults

    @classmethod
    def read(
        cls, directory: Path, most: int | None = None, end_ids: Collection[int] = (), shown: Collection[str] = ()
    ) -> "Text":
        """Read a directory with the tokenizer's files; see PromptTokenizer. Raises CheckpointError."""
        tokenizer = PromptTokenizer(directory, most, end_ids, shown)
        return cls(tokenizer, ChatTemplate(directory, tokenizer), Defaults.read(directory))

    def check(self) -> None:
        """Render a chat.

        Raises CheckpointError if the template refuses even the simplest chat, or if the tokenizer's tokens would be
        decoded wrongly here.
        """
        if not self.tokenizer.is_byte_level:
            raise CheckpointError("The tokenizer is not byte-level, as Llama 3's is: its tokens cannot be decoded.")
        self.template.chat([{"role": "user", "content": "Hello"}])
        self.template.prompt("Hello", SYSTEM_PROMPT)
