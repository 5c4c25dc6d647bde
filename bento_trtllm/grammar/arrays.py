"""A schema's keywords for arrays."""

from collections.abc import Callable, Mapping
from typing import Any

from bento_trtllm.grammar.expressions import EMPTY, Expression, Repeat, choice, sequence
from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.limits import counts

Inner = Callable[[Any, str], Expression]
Spelled = Callable[[Any], list[str] | None]
# The most values for uniqueItems: there is a rule for each subset of values already used.
MAX_UNIQUE = 7


def array(rules: Rules, name: str, schema: Mapping[str, Any], at: str, inner: Inner, spelled: Spelled) -> Expression:
    """The arrays that a schema's keywords allow.

    `inner` makes the expression of a subschema; `spelled` gives all values of a subschema as JSON, if it lists them.
    Raises GrammarError.
    """
    least, most = counts(schema, "Items", at)
    first = schema.get("prefixItems", [])
    items = schema.get("items", True)
    if items is False:
        most = len(first) if most is None else min(most, len(first))
    if most is not None and most < least:
        raise GrammarError(f"{at}/minItems allows no array together with the keywords beside it")
    if schema.get("uniqueItems") and (most is None or most > 1):
        texts = None if first else spelled(items)
        if texts is None or len(texts) > MAX_UNIQUE:
            raise GrammarError(f"{at}/uniqueItems is enforced for items of at most {MAX_UNIQUE} values, in an enum")
        return sequence("[", _unique(rules, name, texts, least, most, at), "]")
    first = first[:most]
    whole: Expression = EMPTY
    if most is None or most > len(first):
        item = rules.rule(f"{name}_i", inner(items, f"{at}/items"), f"{at}/items")
        if not first:
            return rules.rule(name, rules.array(item, least, most), at)
        whole = Repeat(sequence(", ", item), max(least - len(first), 0), None if most is None else most - len(first))
    for i, part in reversed(list(enumerate(first))):
        where = f"{at}/prefixItems/{i}"
        taken = sequence(", " if i else "", inner(part, where), whole)
        whole = rules.rule(f"{name}_{i}", taken if i < least else choice("", taken), where)
    return sequence("[", whole, "]")


def _unique(rules: Rules, name: str, texts: list[str], least: int, most: int | None, at: str) -> Expression:
    """Each of some values at most once, in any order."""
    count = len(texts)
    if least > count:
        raise GrammarError(f"{at}/minItems asks for more items than there are values")
    longest = count if most is None else min(most, count)
    after: dict[int, Expression] = {}
    # A set is a bit mask. Larger sets first, since rules refer to them.
    for taken in sorted(range(2**count), key=int.bit_count, reverse=True):
        had = taken.bit_count()
        if had > longest:
            continue
        options: list[Expression] = [EMPTY] if had >= least else []
        if had < longest:
            options += [
                sequence(", " if had else "", text, after[taken | 1 << i])
                for i, text in enumerate(texts)
                if not taken & 1 << i
            ]
        after[taken] = rules.rule(f"{name}_{taken}", choice(*options), at)
    return after[0]
