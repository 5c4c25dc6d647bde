"""A schema's keywords for strings: length, format, pattern."""

from collections.abc import Mapping
from typing import Any

from bento_trtllm.grammar.expressions import Expression, Literal, Repeat, Rule, Within, parts, sequence
from bento_trtllm.grammar.formats import FORMATS, SAY_NOTHING
from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.lengths import ShortestLengths, longest
from bento_trtllm.grammar.limits import counts
from bento_trtllm.grammar.patterns import parse


def string(rules: Rules, schema: Mapping[str, Any], at: str) -> Expression:
    """The strings that a schema's keywords allow, with their quotes. Raises GrammarError."""
    least, most = counts(schema, "Length", at)
    form = schema.get("format")
    if form in SAY_NOTHING:
        form = None
    if form is not None and form not in FORMATS:
        raise GrammarError(f"{at}/format is {form!r}: supported are {', '.join(FORMATS)}")
    if "pattern" in schema:
        if form is not None:
            raise GrammarError(f"{at}/pattern is not supported beside a format")
        found = parse(rules, schema["pattern"], at)
        inside = found.expression
        if found.run and isinstance(inside, Repeat):
            inside = _narrowed(inside, least, most, at)
            least, most = 0, None
        what = "pattern"
    elif form is not None:
        inside, what = FORMATS[form](rules), "format"
    else:
        return rules.string(least, most)
    return sequence('"', _of_length(rules, inside, least, most, f"{at}/{{}} is not supported beside this {what}"), '"')


def _narrowed(repeat: Repeat, least: int, most: int | None, at: str) -> Repeat:
    """Characters whose number satisfies both a pattern and the lengths."""
    least = max(repeat.least, least)
    ends = [end for end in (repeat.most, most) if end is not None]
    if ends and min(ends) < least:
        raise GrammarError(f"{at}/pattern allows no string of that length")
    return Repeat(repeat.item, least, min(ends, default=None))


def _of_length(rules: Rules, inside: Expression, least: int, most: int | None, refusal: str) -> Expression:
    """The same strings if all are long enough, restricted to those that are short enough."""
    if not least and most is None:
        return inside
    shortest = ShortestLengths({**rules.rules, "": inside}).of(inside)
    assert shortest is not None  # formats and patterns have finite texts
    plain = not _escapes(inside, rules.rules)
    # A character may be written with up to six characters.
    if least and (shortest if plain else -(-shortest // 6)) < least:
        raise GrammarError(refusal.format("minLength"))
    if most is None or longest(inside, rules.rules) <= most:
        return inside
    if not plain or shortest > most:
        raise GrammarError(refusal.format("maxLength"))
    return Within(inside, most)


def _escapes(expression: Expression, rules: Mapping[str, Expression]) -> bool:
    """Whether a text of it may have a character that is written with several."""
    todo, seen = [expression], set[str]()
    while todo:
        part = todo.pop()
        if isinstance(part, Literal) and "\\" in part.text:
            return True
        if isinstance(part, Rule) and part.name not in seen:
            seen.add(part.name)
            todo.append(rules[part.name])
        todo += parts(part)
    return False
