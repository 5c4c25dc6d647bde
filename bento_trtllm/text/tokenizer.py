"""The checkpoint's tokenizer as the service uses it: prompts to token ids, tokens to bytes."""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from bento_trtllm.errors import BentoTRTLLMError, CheckpointError
from bento_trtllm.text.controls import SLICE, Controls
from bento_trtllm.text.detokenizer import Detokenizer
from bento_trtllm.text.files import read_json
from bento_trtllm.text.templates import CONFIG, Templates
from bento_trtllm.text.vocabulary import token_bytes

# The tokens that PROMPT_TEMPLATE is written with.
LLAMA3_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

# The system prompt and the template's own text are the same in most requests, and most of what is encoded.
SHORT, MOST_PARTS = 2048, 128
# SLICE characters are encoded at once, in a few milliseconds. The library releases Python's lock meanwhile only if it
# is given a batch (tokenizers 0.23). A text may be split between two calls before a space or punctuation that follows a
# letter, since no pre-tokenizer of byte-level vocabularies treats the two as one word.
BORDER = re.compile(r"(?<=[^\W\d_])[ \n。、，！？]")
# No meaningful text goes on for this long without such a place. A word of a million letters takes a second.
LONGEST_WORD = 131_072
PROBES = (
    "Some words",
    " of (text) in",
    "\n\nand a",
    " new 12b",
    " line日本",
    "。語 é",
    "  two",
    ", three",
    "  \n four",
)


class TextTooLong(BentoTRTLLMError):
    """A text has more tokens than fit."""


class PromptTokenizer:
    """Encodes prompts in which only the template's own control tokens are control tokens.

    Control tokens are the special tokens, and any other added tokens that the checkpoint's chat templates can write.
    `protect` marks those in a user's text before the text enters a template; `encode` removes the marks and reads those
    tokens as plain characters.

    Raises CheckpointError for files that cannot be read.
    """

    def __init__(
        self,
        directory: Path,
        most: int | None = None,
        end_ids: Collection[int] = (),
        shown: Collection[str] = (),
    ) -> None:
        """At most `most` tokens of a text are encoded; a longer text raises TextTooLong without costing more than that.

        `end_ids` are end tokens: not part of an answer's text, whatever the tokenizer says about them. `shown` are
        control tokens that are part of it.
        """
        self._most = most
        self.config = read_json(directory / CONFIG)
        self._tokenizer = _read_tokenizer(directory / "tokenizer.json")
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        templates = Templates.read(directory)
        self._add_named(templates)
        self._bytes = token_bytes(self._tokenizer)
        for name in shown:
            if (i := self._tokenizer.token_to_id(name)) is not None:
                self._bytes[i] = name.encode()
        for token in end_ids:
            if token < len(self._bytes):
                self._bytes[token] = b""
        self._controls = Controls(self._control_tokens(templates))
        self.special_ids = self._controls.ids
        self.prefix = self._read_prefix()
        # A token is at most this many bytes, and a character at least one; a normalizer may drop some.
        longest = max(map(len, self._bytes), default=1)
        self._most_characters = most * longest if most and self._tokenizer.normalizer is None else None
        self._slice = SLICE if self._may_be_cut() else None
        self._encode_part = lru_cache(MOST_PARTS)(self._encode_now)

    def _add_named(self, templates: Templates) -> None:
        """Make named tokens (bos_token, …) special that the tokenizer has only as ordinary words."""
        added = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
        words = sorted(set(templates.names.values()) - added)
        self._tokenizer.add_special_tokens([word for word in words if self._tokenizer.token_to_id(word) is not None])

    def _control_tokens(self, templates: Templates) -> dict[int, AddedToken]:
        """Control tokens by id; from here on the library recognises none of them in a text."""
        added = {i: token for i, token in self._tokenizer.get_added_tokens_decoder().items() if token.content}
        others = [token for token in added.values() if not token.special and not token.content.isspace()]
        texts = list(templates.written()) if others else []
        written = [token for token in others if any(token.content in text for text in texts)]
        for token in written:
            token.special = True
        self._tokenizer.add_special_tokens(written)
        self._tokenizer.encode_special_tokens = True
        controls = {i: token for i, token in added.items() if token.special}
        names = [token.content for token in controls.values()]
        plain = self._tokenizer.encode_batch_fast(names, add_special_tokens=False)
        for (i, token), encoding in zip(controls.items(), plain, strict=True):
            # A word that a template also writes may be in the vocabulary as an ordinary word.
            if i in encoding.ids and not token.content.isalnum():
                raise CheckpointError(f"The tokenizer reads plain characters as the control token {token.content}.")
        return controls

    def _read_prefix(self) -> tuple[int, ...]:
        """What the tokenizer itself puts before bare text: a BOS token, or nothing."""
        encoding = self._tokenizer.encode("a")
        length = next((i for i, special in enumerate(encoding.special_tokens_mask) if not special), 0)
        return tuple(encoding.ids[:length])

    @property
    def is_llama3(self) -> bool:
        """Whether the vocabulary has the control tokens of Llama 3's prompt format."""
        return all(token in self.special_ids for token in LLAMA3_TOKENS)

    @property
    def is_byte_level(self) -> bool:
        """Whether its tokens are bytes in GPT-2's alphabet, which is what this class expects."""
        ids = self.encode_text("".join(PROBES))
        return self.decode(ids) == self._tokenizer.decode(ids)

    def protect(self, text: str) -> str:
        """A user's text with each control token in it marked as plain characters."""
        return self._controls.protect(text)

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a rendered template. Adds no token that the template does not write. Raises TextTooLong."""
        self.check_length(len(prompt) - self._controls.marks(prompt))
        ids: list[int] = []
        at = 0
        for start, end, token in self._controls.find(prompt):
            self._extend(ids, prompt[at:start])
            ids.append(token)
            at = end
        self._extend(ids, prompt[at:])
        return ids

    def encode_text(self, text: str) -> list[int]:
        """Token ids of bare text; control tokens in it are plain characters. Raises TextTooLong."""
        self.check_length(len(text))
        ids: list[int] = []
        self._extend(ids, text)
        return ids

    def count(self, text: str) -> int:
        """The number of tokens in a text of up to some thousand characters, whether or not they fit."""
        return len(self._encode_now(text))

    def ids(self, text: str) -> Sequence[int]:
        """The tokens of such a text."""
        return self._encode_now(text)

    def check_length(self, characters: int) -> None:
        """Refuse a text that is too long whatever its content. Raises TextTooLong."""
        if self._most_characters is not None and characters > self._most_characters:
            raise TextTooLong(f"The text has {characters} characters, and so over {self._most} tokens.")

    def _extend(self, ids: list[int], text: str) -> None:
        """Append a text's tokens."""
        if len(text) <= SHORT:
            ids += self._encode_part(text)
        else:
            text = self._controls.bare(text)
            for part in [text] if self._slice is None else slices(text, self._slice):
                ids += self._encode_now(part, None if self._most is None else self._most - len(ids))
        self._check_count(len(ids), self._most)

    def _may_be_cut(self) -> bool:
        """Whether this tokenizer encodes a split text like the whole: not if it marks the beginning of a text."""
        return self._encode_now("".join(PROBES)) == tuple(i for part in PROBES for i in self._encode_now(part))

    def control(self, name: str) -> int | None:
        """The control token of that name."""
        return self.special_ids.get(name)

    def token_bytes(self, token: int, *, named: bool = False) -> bytes:
        """The bytes of one token; a control token has none, or with `named` those of its name."""
        table = self._with_names if named else self._bytes
        return table[token] if token < len(table) else b""

    def spell(self, ids: Sequence[int]) -> str:
        """The text of tokens, control tokens by their names."""
        detokenizer = self.detokenizer(named=True)
        return detokenizer.feed(ids) + detokenizer.flush()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, decoded at once, without control tokens."""
        detokenizer = self.detokenizer()
        return detokenizer.feed(ids) + detokenizer.flush()

    def detokenizer(self, *, named: bool = False) -> Detokenizer:
        """A new incremental decoder."""
        return Detokenizer(self._with_names if named else self._bytes)

    @cached_property
    def _with_names(self) -> list[bytes]:
        """The bytes of all tokens, with names of control tokens."""
        table = list(self._bytes)
        for name, token in self.special_ids.items():
            if token < len(table):
                table[token] = name.encode()
        return table

    def _encode_now(self, text: str, most: int | None = None) -> Sequence[int]:
        text = self._controls.bare(text)
        if not text:
            return ()
        encoding = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]
        # Before the ids are converted to Python's, which needs its lock.
        self._check_count(len(encoding), most)
        return tuple(encoding.ids)

    def _check_count(self, count: int, most: int | None) -> None:
        if most is not None and count > most:
            raise TextTooLong(f"The text has over {self._most} tokens.")


def slices(text: str, size: int, longest: int = LONGEST_WORD) -> Iterator[str]:
    """A text in parts of about `size` characters, each encoded as it would be within the whole.

    If there is no place to split within `longest` further characters, the text is split there, and a few tokens around
    the split may differ from those of the whole; their text is the same.
    """
    start = 0
    while len(text) - start > size:
        border = BORDER.search(text, start + size, start + size + longest)
        end = border.start() if border else start + size + longest
        if end >= len(text):
            break
        yield text[start:end]
        start = end
    yield text[start:]


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no error class of its own
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
