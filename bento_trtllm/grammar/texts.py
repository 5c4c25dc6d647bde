"""One of many texts, as an expression in which nothing that several begin with is written twice."""

from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile

from bento_trtllm.grammar.expressions import Expression, choice, sequence

# Beginnings within beginnings; deeper ones are written out.
DEPTH = 8


def one_of(texts: Iterable[str]) -> Expression:
    """One of these texts, none of them empty. Whoever follows it has few ways open after each character."""
    return _tree(sorted(set(texts)), DEPTH)


def _tree(texts: Sequence[str], depth: int) -> Expression:
    """One of these texts, which are sorted; the empty one may be among them."""
    if not depth:
        return choice(*texts)
    options: list[Expression | str] = []
    for first, group in groupby(texts, key=lambda text: text[:1]):
        alike = list(group)
        if not first or len(alike) == 1:
            options.append(alike[0])
            continue
        # Between the first and the last there is nothing with another beginning.
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(alike[0], alike[-1], strict=False))
        prefix = "".join(letter for letter, _ in shared)
        options.append(sequence(prefix, _tree([text[len(prefix) :] for text in alike], depth - 1)))
    return choice(*options)
