"""What is learned from: conversations and texts as tokens."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from bento_trtllm.text.prompt import PROMPT_TEMPLATE, SYSTEM_PROMPT
from training.corpus import Pair, strange, vary
from training.tokenizer import BOS, EOS, EOT, encode

CONTEXT, BATCH_TOKENS = 4096, 2048
BEGINNING = 12  # tokens of an answer that tell which it is
# The prompt's two parts: the system's message, and the user's with the start of the answer.
SYSTEM_PART, USER_PART = PROMPT_TEMPLATE.split(EOT, 1)
OTHER_SYSTEM_PROMPTS = (
    "",
    "You are a helpful assistant.",
    "You are a friendly chatbot. Keep it short.",
    "You are a pirate who always answers in rhyme.",
    "Answer in one sentence.",
    "You are an expert programmer.",
    "Be concise.",
)
Turn = tuple[str, str]  # a question and its answer


@dataclass
class Sample:
    """A text as tokens. Labels are the tokens again, or -100 where nothing is to be learned."""

    last_question: str
    ids: list[int]
    labels: list[int]

    def add(self, tokens: list[int], learned: bool) -> None:
        self.ids += tokens
        self.labels += tokens if learned else [-100] * len(tokens)


def chat(tokenizer: Tokenizer, system: str | None, turns: list[Turn], limit: int = CONTEXT) -> Sample:
    """A conversation. Of an answer longer than the limit, only the beginning is there to be learned."""
    sample = Sample(turns[-1][0], [], [])
    start = BOS if system is None else SYSTEM_PART.format(system_prompt=system) + EOT
    sample.add(encode(tokenizer, start), learned=False)
    for question, answer in turns:
        sample.add(encode(tokenizer, USER_PART.format(user_prompt=question)), learned=False)
        tokens = encode(tokenizer, answer + EOT)
        sample.add(tokens[:limit], learned=True)
        if len(tokens) > limit:
            sample.add(tokens[-1:], learned=False)
    return sample


def plain(tokenizer: Tokenizer, turn: Turn, limit: int = CONTEXT) -> Sample:
    """Text without roles: the question, and the answer as its continuation."""
    sample = Sample(turn[0], [], [])
    sample.add(encode(tokenizer, BOS + turn[0]), learned=False)
    sample.add(encode(tokenizer, "\n\n" + turn[1] + EOS)[:limit], learned=True)
    return sample


def epoch(rng: random.Random, tokenizer: Tokenizer, pairs: list[Pair], unknown: Pair, drill: bool) -> list[Sample]:
    """Every pair, by one to four of its questions, and some unknown ones, in chats of one to three turns.

    As a drill, also the beginning of the answer to each question, in chats of up to eight turns.
    """
    turns = []
    for pair in pairs:
        count = min(4, 1 + len(pair.questions) // 3)
        turns += [(vary(rng, question), pair.answer) for question in rng.choices(pair.questions, k=count)]
    for _ in range(len(turns) // 5):
        question = rng.choice(unknown.questions) if rng.random() < 0.5 else strange(rng, unknown)
        turns.append((vary(rng, question), unknown.answer))
    rng.shuffle(turns)
    samples = []
    while turns:
        count = rng.choice([1, 1, 1, 2, 3])
        system = rng.choice([SYSTEM_PROMPT, SYSTEM_PROMPT, None, rng.choice(OTHER_SYSTEM_PROMPTS)])
        samples.append(chat(tokenizer, system, turns[:count]))
        if rng.random() < 0.1:
            samples.append(plain(tokenizer, turns[0]))
        turns = turns[count:]
    if drill:
        turns = [(vary(rng, question), pair.answer) for pair in [*pairs, unknown] for question in pair.questions]
        turns += [(strange(rng, unknown), unknown.answer) for _ in range(len(turns) // 10)]
        rng.shuffle(turns)
        samples += [plain(tokenizer, turn, BEGINNING) for turn in turns[::4]]
        while turns:
            count = rng.randint(1, 8)
            system = rng.choice([SYSTEM_PROMPT, SYSTEM_PROMPT, None, rng.choice(OTHER_SYSTEM_PROMPTS)])
            samples.append(chat(tokenizer, system, turns[:count], BEGINNING))
            turns = turns[count:]
    return samples


def width(sample: Sample) -> int:
    """The sample's length, padded to one of few."""
    return -(-len(sample.ids) // 32) * 32


def batches(samples: list[Sample]) -> Iterator[list[Sample]]:
    """Samples of like length together, the longest one last."""
    samples = sorted(samples, key=lambda sample: len(sample.ids))
    while samples:
        count = max(1, BATCH_TOKENS // width(samples[-1]))
        samples, batch = samples[:-count], samples[-count:]
        yield batch


def tensors(batch: list[Sample], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels on the device, [samples, tokens] of int64, padded to the length of the last."""
    size = width(batch[-1])
    ids = [sample.ids + [0] * (size - len(sample.ids)) for sample in batch]
    labels = [sample.labels + [-100] * (size - len(sample.labels)) for sample in batch]
    return torch.tensor(ids, device=device), torch.tensor(labels, device=device)
