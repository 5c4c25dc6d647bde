"""A repetition of what is written already, such as that of a structural tag's parts."""

from contextlib import suppress

from bento_trtllm.grammar.automaton import automaton
from bento_trtllm.grammar.costs import Costs
from bento_trtllm.grammar.expressions import Expression, Repeat, rules_in
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.lengths import ShortestLengths
from bento_trtllm.grammar.paths import AutomatonTooLarge


def repetition(rules: Rules, repeat: Repeat) -> Expression:
    """Its texts, unescaped: as an automaton where it costs an engine much as it is, and is small enough."""
    found, todo = dict[str, Expression](), [*rules_in(repeat)]
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = rules.rules[name]
            todo += rules_in(found[name])
    costs = Costs(found, ShortestLengths(found).empty())
    if costs.repeats(repeat) and not costs.recursive:
        with suppress(AutomatonTooLarge):
            return automaton(repeat, found).write(rules, bare=True)
    return repeat
