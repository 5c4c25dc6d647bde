"""Text that goes on freely up to a mark."""

from collections.abc import Collection, Mapping

from bento_trtllm.grammar.charset import CharacterSet
from bento_trtllm.grammar.expressions import Characters, Expression, Rule, characters, choice, sequence
from bento_trtllm.grammar.grammar import GrammarError
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


# The most places in texts that are looked for in any text: each is one of any character.
MAX_STATES = 64


def until_any(
    rules: Rules, name: str, marks: Mapping[str, Expression], *, may_end: bool = False, never: Collection[str] = ()
) -> Rule:
    """Any text up to the first of several marks, the mark, and what comes after it; of two in one place the longer.

    With `may_end` also text without any. None of the texts of `never` is in it. Raises GrammarError.
    """
    texts = {*marks, *never}
    begun = {text[:end] for text in texts for end in range(len(text))} | {""}
    # A place behind which a text is already whole cannot be reached.
    states = sorted(state for state in begun if not any(text in state for text in texts))
    if len(states) > MAX_STATES:
        raise GrammarError(
            f"it is too large: {sorted(texts)[0][:40]!r} and what else is looked for in text is too long"
        )
    letters = sorted({letter for text in texts for letter in text})
    for state in states:
        options: list[Expression | str] = [""] if may_end else []
        known = []
        for letter in letters:
            ends = [(state + letter)[i:] for i in range(len(state) + 1)]
            whole = [end for end in ends if end in texts]
            on = next((end for end in ends if end in begun), "")
            if any(end in never for end in whole):
                known.append(letter)
            elif whole or on:
                known.append(letter)
                after = marks[whole[0]] if whole else Rule(f"{name}{states.index(on)}")
                options.append(sequence(letter, after))
        others = (~CharacterSet.of((ord(letter), ord(letter)) for letter in known)).bare()
        assert others
        rules.rule(f"{name}{states.index(state)}", choice(*options, sequence(others, Rule(f"{name}0"))))
    return Rule(f"{name}0")
