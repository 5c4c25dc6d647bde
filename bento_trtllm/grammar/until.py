"""Text that goes on freely up to a mark."""

from bento_trtllm.grammar.expressions import Characters, Expression, Rule, choice, sequence
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


def unless(rules: Rules, name: str, beginning: str, after: Expression) -> Rule:
    """Any text, but if it begins so, what comes after that beginning."""
    anything = rules.rule(f"{name}_any", choice("", sequence(ANY, Rule(f"{name}_any"))))
    for i, letter in enumerate(beginning):
        on = after if i + 1 == len(beginning) else Rule(f"{name}{i + 1}")
        others = Characters(((letter, letter),), negated=True)
        rules.rule(f"{name}{i}", choice("", sequence(letter, on), sequence(others, anything)))
    return Rule(f"{name}0")


# No text has a NUL, and a class must name something.
ANY = Characters((("\0", "\0"),), negated=True)
