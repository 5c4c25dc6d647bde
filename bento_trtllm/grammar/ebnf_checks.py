"""What a grammar of a client's must not be: without an end, without a beginning, or too much to follow.

Refused are rules that are not there, that nothing refers to, or that never end, and left recursion.
"""

from collections.abc import Iterator, Mapping

from bento_trtllm.grammar.costs import APART, Costs
from bento_trtllm.grammar.ebnf_reader import Definitions
from bento_trtllm.grammar.expressions import (
    Characters,
    Choice,
    Concatenation,
    Expression,
    Literal,
    Rule,
    parts,
    rules_in,
)
from bento_trtllm.grammar.grammar import ROOT, GrammarError
from bento_trtllm.grammar.growth import GROWING, growing
from bento_trtllm.grammar.lengths import ShortestLengths, can_be_empty
from bento_trtllm.grammar.nesting import MAX_NESTED, NESTED, nested

# In how many ways a rule may begin: all are followed at once.
MAX_BEGINNINGS = 256


def check(found: Definitions) -> Costs:
    """What it costs, once nothing is to be refused. Raises GrammarError."""
    _check_references(found)
    empty = _check_ends(found)
    _check_heads(found, empty)
    if name := growing(found.rules):
        found.refuse(found.places[name], f"the rule {name[:80]} has {GROWING}")
    costs = Costs(found.rules, empty)
    for name, rule in costs.apart().items():
        if name not in found.rules:
            found.places[name] = found.places[name.removesuffix(APART)]
        found.rules[name] = rule
    costs = Costs(found.rules, ShortestLengths(found.rules).empty())
    for name, count in nested(found.rules, costs.empty, called=costs.recursive).items():
        if count > MAX_NESTED:
            found.refuse(found.places[name], f"the rule {name[:80].removesuffix(APART)} has {NESTED}")
    return costs


def _check_references(found: Definitions) -> None:
    for name, place in found.references.items():
        if name not in found.rules:
            found.refuse(place, f"there is no rule {name[:80]}")
    if ROOT not in found.rules:
        raise GrammarError(f"there is no rule {ROOT}, with which every answer begins")
    reached, todo, letters = set[str](), [ROOT], False
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += rules_in(found.rules[name])
            letters = letters or has_letters(found.rules[name])
    for name, place in found.places.items():
        if name not in reached:
            found.refuse(place, f"nothing in {ROOT} leads to the rule {name[:80]}: leave it out or refer to it")
    if not letters:
        raise GrammarError("it allows nothing but the empty text")


def has_letters(expression: Expression) -> bool:
    """Whether it has a text or a class of its own."""
    return isinstance(expression, Literal | Characters) or any(map(has_letters, parts(expression)))


def _check_ends(found: Definitions) -> set[str]:
    sizes = ShortestLengths(found.rules)
    for name, place in found.places.items():
        if sizes.of(Rule(name)) is None:
            found.refuse(place, f"the rule {name[:80]} never ends: it has no text without another of itself in it")
    return sizes.empty()


def _check_heads(found: Definitions, empty: set[str]) -> None:
    """Refuse left recursion, and rules that begin in too many ways."""
    ways: dict[str, int] = {}
    for start in found.rules:
        path = {start: _heads(found.rules[start], empty)}
        while path and start not in ways:
            name = next(reversed(path))
            following = next(path[name], None)
            if following is None:
                del path[name]
                ways[name] = _ways(found.rules[name], ways, empty)
                if ways[name] > MAX_BEGINNINGS:
                    most = f"and at most {MAX_BEGINNINGS} are followed"
                    found.refuse(found.places[name], f"the rule {name[:80]} begins in {ways[name]} ways, {most}")
            elif following in path:
                message = f"the rule {following[:80]} begins with itself (left recursion): write it with * or +"
                found.refuse(found.places[following], message)
            elif following not in ways:
                path[following] = _heads(found.rules[following], empty)


def _heads(expression: Expression, empty: set[str]) -> Iterator[str]:
    """The rules that a text may begin with, as often as it may."""
    if isinstance(expression, Rule):
        yield expression.name
    for part in _first(expression, empty):
        yield from _heads(part, empty)


def _first(expression: Expression, empty: set[str]) -> Iterator[Expression]:
    """The parts with which a text may begin."""
    for part in parts(expression):
        yield part
        if isinstance(expression, Concatenation) and not can_be_empty(part, empty.__contains__):
            return


def _ways(expression: Expression, ways: Mapping[str, int], empty: set[str]) -> int:
    if isinstance(expression, Rule):
        return ways[expression.name]
    if isinstance(expression, Choice) and (texts := texts_of(expression)):
        others = [option for option in expression.options if not isinstance(option, Literal)]
        return len({text[0] for text in texts}) + sum(_ways(option, ways, empty) for option in others)
    return max(1, sum(_ways(part, ways, empty) for part in _first(expression, empty)))


def texts_of(expression: Choice) -> list[str]:
    """The options that are texts."""
    return [option.text for option in expression.options if isinstance(option, Literal)]
