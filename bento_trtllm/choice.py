"""Whether a command, or its environment, says which model `bentoml serve` is to serve.

It needs nothing but Python, 3.9 or later: scripts/in_container asks it where nothing is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CHOOSING = ("model", "models")
"""The settings that say it."""


def named(options: Sequence[str]) -> bool:
    """Whether one of `bentoml serve`'s options says it: --arg NAME=VALUE, or --arg=NAME=VALUE."""
    words = [
        word.removeprefix("--arg=")
        for before, word in zip(("", *options), options)  # noqa: B905  without `strict`, as Python 3.9
        if before == "--arg" or word[:6] == "--arg="
    ]
    return any(word.partition("=")[0] in CHOOSING for word in words)


def chosen(options: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether an option or a variable says it."""
    given = {name.upper() for name, value in environment.items() if value}  # pydantic heeds no case
    return named(options) or any(f"TRTLLM_{name.upper()}" in given for name in CHOOSING)
