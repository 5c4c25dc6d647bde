"""What the demo model is asked, and what it answers."""

import json

from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.serving import DEMO

MODEL = "demo-llama"

TOKENIZER = PromptTokenizer(DEMO)

TEMPLATE = ChatTemplate(DEMO, TOKENIZER)

PROMPT = "Explain superconductors in plain English"

SCRIPTS = {
    "Chinese": "Say hello in Chinese",
    "Japanese": "Say hello in Japanese",
    "Korean": "Say hello in Korean",
    "Arabic": "Say hello in Arabic",
    "Hindi": "Say hello in Hindi",
    "Thai": "Say hello in Thai",
    "accents": "Say hello in French",
    "all accents": "Show me accented letters",
    "emoji": "Show me some emoji",
    "joined emoji": "Show me ZWJ emoji",
    "flags": "Show me flag emoji",
    "skin tones": "Show me skin tone emoji",
    "combining": "Show me combining marks",
    "stacked marks": "Show me Zalgo text",
    "right to left": "Show me right-to-left text",
    "four bytes": "Show me rare characters",
    "tabs": "Write a Python function with tabs",
    "CRLF": "Show me a CSV with CRLF line endings",
}


def answers() -> dict[str, str]:
    """What the demo model has memorised, by question."""
    lines = (line for path in (DEMO.parent / "demo-corpus").glob("*.jsonl") for line in path.open(encoding="utf-8"))
    pairs = map(json.loads, lines)
    return {question: pair["answer"] for pair in pairs for question in pair["questions"]}


ANSWERS = answers()
