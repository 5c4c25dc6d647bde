"""Text that goes on freely up to a mark."""

from collections.abc import Collection, Mapping

from bento_trtllm.grammar.expressions import Characters, Expression, Rule, characters, choice, sequence
from bento_trtllm.grammar.json import Rules


def until(rules: Rules, name: str, mark: str, after: Expression, *, may_end: bool = False) -> Rule:
    """Any text up to the first mark, the mark, and what comes after it; with `may_end` also text without any.

    The mark's first character stands in it once, so that whatever does not go on with the mark may begin it again.
    """
    first = mark[0]
    end: list[Expression | str] = [""] if may_end else []
    for i, letter in enumerate(mark):
        on = after if i + 1 == len(mark) else Rule(f"{name}{i + 1}")
        begun = [sequence(first, Rule(f"{name}1"))] if i else []
        others = Characters(tuple(sorted({(letter, letter), (first, first)})), negated=True)
        options = [*end, sequence(letter, on), *begun, sequence(others, Rule(f"{name}0"))]
        rules.rule(f"{name}{i}", choice(*options))
    return Rule(f"{name}0")


# The most characters at the beginnings of lines that are told apart: each is a place of any character, which costs an
# engine 11 ms to compile (ebnf.py).
MAX_BEGINNINGS = 32


def lines(rules: Rules, name: str, beginnings: Mapping[str, Expression], skipped: str) -> Rule:
    """Any lines, but what begins with one of the texts goes on as the expression of that text.

    Characters that are `skipped`, of which a line break is one, may stand before it. The rule of a line's beginning is
    named `name` and `_line`. Where the beginnings are many, their first letters decide. None of them may begin another.
    """
    start, within = Rule(f"{name}_line"), Rule(f"{name}_words")
    rules.rule(within.name, choice("", sequence("\n", start), sequence(characters("\n", negated=True), within)))
    most = _told_apart(beginnings)

    def after(prefix: str) -> Expression:
        if prefix in beginnings:
            return beginnings[prefix]
        alike = [text for text in beginnings if text.startswith(prefix)]
        if len(prefix) == most:
            return choice(*(sequence(text[most:], beginnings[text]) for text in alike))
        letters = sorted({text[len(prefix)] for text in alike})
        on = [sequence(letter, after(prefix + letter)) for letter in letters]
        free = sorted({*("\n" if prefix else skipped)} - {*letters})
        others = sequence(characters(*letters, *free, negated=True), within)
        place = f"{name}_line{len(made)}" if prefix else start.name
        made.append(place)
        return rules.rule(place, choice("", *on, *(sequence(letter, start) for letter in free), others))

    made: list[str] = []
    after("")
    return start


def _told_apart(texts: Collection[str]) -> int:
    """How many letters of the texts are told apart: as many as MAX_BEGINNINGS places are enough for, at least one."""
    length = max(map(len, texts))
    while length > 1 and len({text[:end] for text in texts for end in range(min(len(text), length))}) > MAX_BEGINNINGS:
        length -= 1
    return length
