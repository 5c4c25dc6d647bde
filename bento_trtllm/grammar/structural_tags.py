"""Structural tags: texts made of tags, JSON, grammars and free text, as xgrammar has them since 0.1.24.

A tag is `{"format": FORMAT}`, or in the older form `{"structures": [{"begin", "schema", "end"}], "triggers": […]}`.
The formats are named as in xgrammar's docs/structural_tag/structural_tag.md (2026-08). Those of single tokens are
refused by name: what is read here is text. So are fields that say how a model counts its tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bento_trtllm.grammar import ebnf_rules
from bento_trtllm.grammar.charset import CharacterSet
from bento_trtllm.grammar.ebnf import MAX_GUIDED_COUNT
from bento_trtllm.grammar.expressions import EMPTY, Expression, Repeat, Rule, choice, sequence
from bento_trtllm.grammar.grammar import ROOT, GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.lengths import ShortestLengths
from bento_trtllm.grammar.limits import MAX_COUNT
from bento_trtllm.grammar.nesting import MAX_NESTED, NESTED, nested
from bento_trtllm.grammar.patterns import whole
from bento_trtllm.grammar.repetition import repetition
from bento_trtllm.grammar.schema import SchemaRules
from bento_trtllm.grammar.until import until_any

Format = Mapping[str, Any]
# What may come behind a format: nothing more at the end of the answer, (); texts, one of which must; or, with None,
# something else, so that the format must end by itself.
Ends = tuple[str, ...] | None


def structural_tag(rules: Rules, tag: Format) -> Expression:
    """The answers that a structural tag allows. Raises GrammarError, which names the place."""
    reader = _Reader(rules)
    fields = tag.keys() - {"type"}
    try:
        if fields == {"format"}:
            root = reader.write(tag["format"], "/format", ())
        elif fields == {"structures", "triggers"}:
            root = reader.older(tag)
        else:
            raise GrammarError("it must have a format, or else structures and triggers")
    except RecursionError as error:
        raise GrammarError("a chain of its rules is too long") from error
    written = {**rules.rules, ROOT: root}
    if max(nested(written, ShortestLengths(written).empty(), rules.automata).values()) > MAX_NESTED:
        raise GrammarError(f"it has {NESTED}")
    return root


class _Reader:
    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._count = 0
        self._formats: dict[str, tuple[Callable[[Format, str, Ends], Expression], set[str]]] = {
            "const_string": (self._const_string, {"value"}),
            "json_schema": (self._json_schema, {"json_schema"}),
            "grammar": (self._grammar, {"grammar"}),
            "regex": (self._regex, {"pattern"}),
            "any_text": (self._any_text, {"excludes"}),
            "sequence": (self._sequence, {"elements"}),
            "or": (self._or, {"elements"}),
            "optional": (self._optional, {"content"}),
            "star": (self._star, {"content"}),
            "plus": (self._plus, {"content"}),
            "repeat": (self._repeat, {"content", "min", "max"}),
            "tag": (self._tag, {"begin", "content", "end"}),
            "triggered_tags": (self._triggered_tags, {"triggers", "tags", *FLAGS, "excludes"}),
            "tags_with_separator": (self._tags_with_separator, {"tags", "separator", *FLAGS}),
            "dispatch": (self._dispatch, {"rules", "loop", "excludes"}),
        }

    def older(self, tag: Format) -> Expression:
        """The form before there were formats: any text with tags of JSON in it."""
        structures = _list(tag, "structures", "", 1)
        tags = []
        for i, one in enumerate(structures):
            if not isinstance(one, Mapping) or one.keys() != {"begin", "schema", "end"}:
                raise GrammarError(f"/structures/{i} must have begin, schema and end")
            content = {"type": "json_schema", "json_schema": one["schema"]}
            tags.append({"type": "tag", "begin": one["begin"], "content": content, "end": one["end"]})
        return self._triggered(tags, "/structures", _texts(tag, "triggers", "", 1), (), (), (False, False))

    def write(self, part: Any, at: str, ends: Ends) -> Expression:
        """A format, and one of the ends behind it, if there are any."""
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            raise GrammarError(f"{at} must be an object with a type")
        found = self._formats.get(part["type"])
        if found is None:
            raise GrammarError(f"{at}/type is {part['type'][:40]!r}: it must be one of {', '.join(self._formats)}")
        make, fields = found
        for field in part.keys() - fields - {"type"}:
            if not _asks_nothing(part[field]):
                raise GrammarError(f"{at}/{field[:40]} is not supported")
        return make(part, at, ends)

    def _const_string(self, part: Format, at: str, ends: Ends) -> Expression:
        return _ended(sequence(_text(part, "value", at)), ends)

    def _json_schema(self, part: Format, at: str, ends: Ends) -> Expression:
        schema = part.get("json_schema")
        if not isinstance(schema, Mapping | bool):
            raise GrammarError(f"{at}/json_schema must be a JSON Schema")
        return _ended(self._within(at, lambda: SchemaRules(self._rules, schema, self._name("t")).root()), ends)

    def _grammar(self, part: Format, at: str, ends: Ends) -> Expression:
        text = _text(part, "grammar", at)
        return _ended(self._within(at, lambda: ebnf_rules.grammar(self._rules, text, self._name("g"))), ends)

    def _regex(self, part: Format, at: str, ends: Ends) -> Expression:
        pattern = _text(part, "pattern", at)
        return _ended(self._within(at, lambda: whole(self._rules, pattern)), ends)

    def _any_text(self, part: Format, at: str, ends: Ends) -> Expression:
        return self._free(at, {}, ends, _texts(part, "excludes", at, 0))

    def _sequence(self, part: Format, at: str, ends: Ends) -> Expression:
        elements = _list(part, "elements", at, 1)
        written = [self.write(one, f"{at}/elements/{i}", None) for i, one in enumerate(elements[:-1])]
        return sequence(*written, self.write(elements[-1], f"{at}/elements/{len(written)}", ends))

    def _or(self, part: Format, at: str, ends: Ends) -> Expression:
        elements = _list(part, "elements", at, 1)
        return choice(*(self.write(one, f"{at}/elements/{i}", ends) for i, one in enumerate(elements)))

    def _optional(self, part: Format, at: str, ends: Ends) -> Expression:
        return choice(_ended(EMPTY, ends), self.write(part.get("content"), f"{at}/content", ends))

    def _star(self, part: Format, at: str, ends: Ends) -> Expression:
        return self._repeated(part, at, ends, 0, None)

    def _plus(self, part: Format, at: str, ends: Ends) -> Expression:
        return self._repeated(part, at, ends, 1, None)

    def _repeat(self, part: Format, at: str, ends: Ends) -> Expression:
        least, most = part.get("min"), part.get("max")
        if type(least) is not int or type(most) is not int or not (0 <= least <= most or (most == -1 and least >= 0)):
            raise GrammarError(f"{at}/min and max must be integers, max -1 or at least min")
        if least > MAX_GUIDED_COUNT or most > MAX_COUNT:
            raise GrammarError(f"{at}: at most {MAX_GUIDED_COUNT} may be required and {MAX_COUNT} allowed")
        return self._repeated(part, at, ends, least, None if most == -1 else most)

    def _repeated(self, part: Format, at: str, ends: Ends, least: int, most: int | None) -> Expression:
        item = self.write(part.get("content"), f"{at}/content", None)
        if self._rules.can_be_empty(item):
            raise GrammarError(f"{at}/content may be empty, and what is repeated must not be")
        return _ended(EMPTY if most == 0 else repetition(self._rules, Repeat(self._named(item), least, most)), ends)

    def _tag(self, part: Format, at: str, ends: Ends) -> Expression:
        begin = _text(part, "begin", at)
        return _ended(sequence(begin, self._behind(part, at)), ends)

    def _behind(self, part: Format, at: str) -> Expression:
        """A tag's content and end."""
        end = part.get("end")
        texts = _texts(part, "end", at, 1) if isinstance(end, list) else (_text(part, "end", at),)
        return self.write(part.get("content"), f"{at}/content", texts)

    def _triggered_tags(self, part: Format, at: str, ends: Ends) -> Expression:
        tags = _list(part, "tags", at, 1)
        excludes = _texts(part, "excludes", at, 0)
        return self._triggered(tags, f"{at}/tags", _texts(part, "triggers", at, 1), ends, excludes, _flags(part, at))

    def _triggered(
        self,
        tags: Sequence[Any],
        at: str,
        triggers: Sequence[str],
        ends: Ends,
        excludes: Sequence[str],
        flags: tuple[bool, bool],
    ) -> Expression:
        least_one, only_first = flags
        begins = {trigger: list[Expression]() for trigger in triggers}
        written: list[Expression] = []
        for i, tag in enumerate(tags):
            begin, behind = self._read_tag(tag, f"{at}/{i}")
            fitting = [trigger for trigger in triggers if trigger and begin.startswith(trigger)]
            if len(fitting) != 1:
                raise GrammarError(f"{at}/{i}/begin must begin with one of the triggers, and with only one")
            begins[fitting[0]].append(sequence(begin[len(fitting[0]) :], behind))
            written.append(sequence(begin, behind))
        if unused := [trigger for trigger in triggers if not begins[trigger]]:
            raise GrammarError(f"no tag begins with the trigger {unused[0][:40]!r}")
        if least_one and only_first:
            return _ended(choice(*written), ends)
        after = {trigger: choice(*options) for trigger, options in begins.items()}
        free = self._free(at, after, ends, excludes, once=only_first)
        return sequence(self._named(choice(*written)), free) if least_one else free

    def _dispatch(self, part: Format, at: str, ends: Ends) -> Expression:
        after: dict[str, Expression] = {}
        for i, rule in enumerate(_list(part, "rules", at, 1)):
            if not isinstance(rule, list) or len(rule) != 2 or not isinstance(rule[0], str) or not rule[0]:
                raise GrammarError(f"{at}/rules/{i} must be a text and a format")
            after[rule[0]] = self.write(rule[1], f"{at}/rules/{i}/1", None)
        loop = part.get("loop", True)
        if not isinstance(loop, bool):
            raise GrammarError(f"{at}/loop must be true or false")
        return self._free(at, after, ends, _texts(part, "excludes", at, 0), once=not loop)

    def _tags_with_separator(self, part: Format, at: str, ends: Ends) -> Expression:
        read = [self._read_tag(tag, f"{at}/tags/{i}") for i, tag in enumerate(_list(part, "tags", at, 1))]
        tag = self._named(choice(*(sequence(*one) for one in read)))
        least_one, only_first = _flags(part, at)
        separator = _text(part, "separator", at)
        more = Repeat(self._named(sequence(separator, tag)), 0, None)
        tags = tag if only_first else sequence(tag, repetition(self._rules, more))
        return _ended(tags if least_one else choice("", tags), ends)

    def _read_tag(self, tag: Any, at: str) -> tuple[str, Expression]:
        """How it begins, and the rest of it."""
        if not isinstance(tag, Mapping) or tag.get("type", "tag") != "tag" or tag.keys() - {"type", *TAG}:
            raise GrammarError(f"{at} must be a tag: begin, content and end")
        return _text(tag, "begin", at), self._named(self._behind(tag, at))

    def _free(
        self, at: str, after: Mapping[str, Expression], ends: Ends, excludes: Sequence[str], *, once: bool = False
    ) -> Expression:
        """Any text, in which what comes after each of some texts is given; with `once`, after the first of them."""
        if ends is None or "" in ends:
            raise GrammarError(f"{at} has no end of its own: it may stand at the end of a tag or of the answer only")
        if not (after or ends or excludes):
            anything = self._rules.once(("any",), lambda: (~CharacterSet(())).bare() or EMPTY)
            return Repeat(anything, 0, None)
        name = self._name("free")
        again = _ended(EMPTY, ends) if once else Rule(f"{name}_0")
        marks = {text: sequence(then, again) for text, then in after.items()}
        if wrong := [text for text in marks if text in ends]:
            raise GrammarError(f"{at} has {wrong[0][:40]!r} both as a beginning and as an end")
        # An end may be among what is excluded, as in xgrammar's own examples.
        never = set(excludes) - set(ends)
        if wrong := [text for text in (*marks, *ends) if any(one in text for one in never)]:
            raise GrammarError(f"{at} excludes what is in {wrong[0][:40]!r}, which must be able to come")
        return until_any(self._rules, f"{name}_", marks | dict.fromkeys(ends, EMPTY), may_end=not ends, never=never)

    def _within(self, at: str, make: Callable[[], Expression]) -> Expression:
        try:
            return make()
        except GrammarError as error:
            raise GrammarError(f"{at}: {error}") from error

    def _named(self, expression: Expression) -> Rule:
        return expression if isinstance(expression, Rule) else self._rules.rule(self._name("x"), expression)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}_"


TAG = ("begin", "content", "end")
FLAGS = ("at_least_one", "stop_after_first")


def _asks_nothing(value: Any) -> bool:
    """Of a field that is not known: whether it is as good as absent."""
    return value is None or value is False or value in ([], "json")


def _ended(expression: Expression, ends: Ends) -> Expression:
    return sequence(expression, choice(*ends)) if ends else expression


def _flags(part: Format, at: str) -> tuple[bool, bool]:
    values = [part.get(flag, False) for flag in FLAGS]
    for flag, value in zip(FLAGS, values, strict=True):
        if not isinstance(value, bool):
            raise GrammarError(f"{at}/{flag} must be true or false")
    return values[0], values[1]


def _text(part: Format, field: str, at: str) -> str:
    value = part.get(field)
    if isinstance(value, Mapping):
        raise GrammarError(f"{at}/{field} must be a text: single tokens are not supported")
    if not isinstance(value, str):
        raise GrammarError(f"{at}/{field} must be a text")
    return value


def _texts(part: Format, field: str, at: str, least: int) -> tuple[str, ...]:
    values = _list(part, field, at, least)
    if not all(isinstance(value, str) and value for value in values):
        raise GrammarError(f"{at}/{field} must be texts that are not empty")
    return tuple(dict.fromkeys(values))


def _list(part: Format, field: str, at: str, least: int) -> Sequence[Any]:
    value = part.get(field, [])
    if not isinstance(value, list) or len(value) < least:
        raise GrammarError(f"{at}/{field} must be a list{' that is not empty' if least else ''}")
    return value
