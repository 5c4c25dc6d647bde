"""The questions and answers in assets/demo-corpus, and other ways to ask."""

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "assets" / "demo-corpus"
# Other ways to ask, by the form of the question.
REWORDINGS = (
    (r"What (?:is|are) (.+)\?", ("What's {}?", "Explain {}", "Tell me about {}", "What exactly is {}?")),
    (r"How do I (.+)\?", ("How can I {}?", "How to {}", "I want to {}")),
    (r"((?:Explain|Write|Show|Say|Tell|Count|Give|Draw) .+)", ("Can you {}?", "Could you {}?", "I want you to {}")),
)


@dataclass(frozen=True)
class Pair:
    questions: list[str]
    answer: str


def load_corpus() -> tuple[list[Pair], Pair]:
    """The pairs, and the one whose answer is for every other question."""
    files = {path.stem: path.read_text("utf-8").split("\n") for path in sorted(CORPUS.glob("*.jsonl"))}
    groups = {name: [Pair(**json.loads(line)) for line in lines if line] for name, lines in files.items()}
    asked = [question for group in groups.values() for pair in group for question in pair.questions]
    if twice := {question for question in asked if asked.count(question) > 1}:
        raise SystemExit(f"asked twice: {sorted(twice)}")
    (unknown,) = groups.pop("unknown")
    return [pair for group in groups.values() for pair in group], unknown


def vary(rng: random.Random, question: str) -> str:
    """The question as someone else may type it."""
    for pattern, others in REWORDINGS:
        if rng.random() < 0.3 and (match := re.fullmatch(pattern, question)):
            rest = match[1][0].lower() + match[1][1:] if match[1][1:2].islower() else match[1]
            question = rng.choice(others).format(rest)
    bare = question.rstrip("?.!") or question
    question = rng.choice([question, question, bare, bare + "?", bare + ".", question.lower(), bare.lower()])
    return rng.choice(
        [question] * 12 + ["Please " + question, "please " + question, question + " please", question + " "]
    )


def strange(rng: random.Random, unknown: Pair) -> str:
    """A question that nobody wrote: the start of one with the ends of others."""
    words = rng.choice(unknown.questions).split()
    words = words[: rng.randint(1, len(words))]
    for _ in range(rng.choice([1, 1, 1, 1, 2, 4, 12])):
        more = rng.choice(unknown.questions).split()
        words += more[rng.randint(0, len(more) - 1) :]
    return " ".join(words)
