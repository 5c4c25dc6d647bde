"""A checkpoint whose answers are known beforehand, whatever the prompt: it walks its whole vocabulary.

A real Llama with real weights. Attention and MLP add nothing (their output projections are 0), so what reaches the
head is the embedding of the last token alone, and the head's row of each token is the embedding of the one before it.
The order is random: most tokens come where no text has them, and most characters are broken.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from tests.support.checkpoints import byte_alphabet, write_checkpoint

# With these a checkpoint is a Llama 3, whose prompts all end alike. Under other names, the last character of the
# prompt is where the walk begins.
RENAMED = {"<|eot_id|>": "<|end_of_turn|>"}
TEMPLATE = "{{ messages[-1]['content'] }}"


def write_walk(directory: Path, like: Path) -> Path:
    """Write the checkpoint into a directory, with the tokens of the checkpoint at `like`; returns the directory."""
    text = (like / "tokenizer.json").read_text("utf-8")
    for old, new in RENAMED.items():
        text = text.replace(old, new)
    vocab = Tokenizer.from_str(text).get_vocab_size()
    write_checkpoint(directory, layers=1, hidden=64, vocab=vocab, family="llama3", context=2048, dtype="F32")
    (directory / "tokenizer.json").write_text(text, "utf-8")
    walk = Walk(directory)
    config = json.loads((directory / "config.json").read_text("utf-8"))
    ends = {"bos_token_id": walk.control[0], "eos_token_id": walk.control[1]}
    (directory / "config.json").write_text(json.dumps(config | ends))
    (directory / "generation_config.json").write_text(json.dumps(ends))
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    tensors = load_file(directory / "model.safetensors")
    rows = tensors["model.embed_tokens.weight"]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    head = np.zeros_like(rows)
    head[np.roll(walk.order, -1)] = rows[walk.order]
    tensors["lm_head.weight"] = head
    for name in tensors:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensors[name][:] = 0
        elif name.endswith("norm.weight"):
            tensors[name][:] = 1
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


class Walk:
    """The order in which the checkpoint in a directory walks its tokens, without end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        added = self.tokenizer.get_added_tokens_decoder()
        self.control = sorted(i for i, token in added.items() if token.special)
        self.tokens = sorted(set(self.tokenizer.get_vocab().values()) - set(self.control))
        self.order = np.random.default_rng(0).permutation(self.tokens)
        self._places = {int(token): place for place, token in enumerate(self.order)}

    def answer(self, prompt: str, length: int) -> list[int]:
        """The tokens with which the model answers."""
        last = self.tokenizer.encode(prompt, add_special_tokens=False).ids[-1]
        places = self._places[last] + 1 + np.arange(length)
        return [int(token) for token in self.order.take(places, mode="wrap")]

    def bytes(self, tokens: list[int]) -> bytes:
        """The bytes of tokens, as byte-level BPE writes them."""
        alphabet = byte_alphabet()
        text = "".join(str(self.tokenizer.id_to_token(token)) for token in tokens)
        return bytes(map(alphabet.index, text))

    def prompts(self, count: int) -> list[str]:
        """Prompts whose answers begin all along the walk, at like distances as far as tokens are text."""
        starts = {}
        for token in self.tokens:
            text = self.tokenizer.decode([token])
            if self.tokenizer.encode(text, add_special_tokens=False).ids == [token]:
                starts[self._places[token]] = text
        wanted = [i * len(self.order) // count for i in range(count)]
        return [starts[min(starts, key=lambda place: abs(place - want))] for want in wanted]
