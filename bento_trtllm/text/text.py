"""All that is read of a checkpoint to understand requests and to write answers."""

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
    """What packing tries is what serving reads: whatever packs, serves."""

    tokenizer: PromptTokenizer
    template: ChatTemplate
    defaults: Defaults

    @classmethod
    def read(
        cls, directory: Path, most: int | None = None, end_ids: Collection[int] = (), shown: Collection[str] = ()
    ) -> "Text":
        """From a directory with the tokenizer's files; see PromptTokenizer. Raises CheckpointError."""
        tokenizer = PromptTokenizer(directory, most, end_ids, shown)
        return cls(tokenizer, ChatTemplate(directory, tokenizer), Defaults.read(directory))

    def check(self) -> None:
        """Render a chat. Raises CheckpointError where the template refuses the simplest there is.

        And for a tokenizer whose tokens would be shown as other text than they are.
        """
        if not self.tokenizer.is_byte_level:
            raise CheckpointError("The tokenizer is not byte-level, as Llama 3's is: its tokens cannot be shown.")
        self.template.chat([{"role": "user", "content": "Hello"}])
        self.template.prompt("Hello", SYSTEM_PROMPT)
