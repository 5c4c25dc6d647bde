"""One of many texts, as an expression in which common beginnings are written once."""

from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile

from bento_trtllm.grammar.expressions import Expression, choice, sequence

# Nesting of common beginnings; deeper ones are written in full.
DEPTH = 8


def one_of(texts: Iterable[str]) -> Expression:
    """One of these texts, none of them empty. Only a few ways are open after each character."""
    return _tree(sorted(set(texts)), DEPTH)


def _tree(texts: Sequence[str], depth: int) -> Expression:
    """One of these texts, which are sorted and may include the empty text."""
    if not depth:
        return choice(*texts)
    options: list[Expression | str] = []
    for first, group in groupby(texts, key=lambda text: text[:1]):
        alike = list(group)
        if not first or len(alike) == 1:
            options.append(alike[0])
            continue
        # All texts between the first and the last share their beginning.
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(alike[0], alike[-1], strict=False))
        prefix = "".join(letter for letter, _ in shared)
        options.append(sequence(prefix, _tree([text[len(prefix) :] for text in alike], depth - 1)))
    return choice(*options)
