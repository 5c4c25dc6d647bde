"""Compiles JSON Schema to a grammar whose every text is valid, with a text for every value that the schema allows.

A keyword that the grammar would not enforce is refused by name, never ignored; annotations, which do not restrict
values, are skipped. What a schema leaves open is written in one way: properties in the order of the schema and no
others, no spaces except after `,` and `:`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from bento_trtllm.grammar.arrays import array
from bento_trtllm.grammar.assertions import assertions
from bento_trtllm.grammar.constants import spelled_out
from bento_trtllm.grammar.expressions import Expression, Rule, choice, sequence
from bento_trtllm.grammar.grammar import ROOT, Grammar, GrammarError
from bento_trtllm.grammar.intersection import NothingLeft, conjuncts, together
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.numbers import numeric
from bento_trtllm.grammar.objects import Notation, object_
from bento_trtllm.grammar.references import find, with_pointers
from bento_trtllm.grammar.schema_limits import check_size
from bento_trtllm.grammar.shape import check_shape
from bento_trtllm.grammar.strings import string
from bento_trtllm.grammar.texts import one_of
from bento_trtllm.grammar.values import all_apart

NUMBER = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
KEYWORDS = {
    "object": {
        *("properties", "required", "additionalProperties"),
        *("minProperties", "maxProperties", "propertyNames", "patternProperties"),
    },
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
    "string": {"minLength", "maxLength", "format", "pattern"},
    "number": NUMBER,
    "integer": NUMBER,
    "boolean": set[str](),
    "null": set[str](),
}
# None of them restricts values of the other types.
OF_ANY = set[str]().union(*KEYWORDS.values())
# The most schemas of one document that are combined from several.
MAX_COMBINED = 500

Schema = Mapping[str, Any] | bool


def compile_schema(schema: Schema) -> Grammar:
    """The grammar of a JSON Schema. Raises GrammarError, which names the keyword and its place."""
    check_size(schema)
    return make_grammar(lambda rules: SchemaRules(rules, schema).root())


def make_grammar(root: Callable[[Rules], Expression]) -> Grammar:
    """The grammar of the rules that `root` writes. Raises GrammarError."""
    rules = Rules()
    first = root(rules)
    return Grammar({ROOT: first, **rules.rules}, rules.places)


class SchemaRules:
    """Rules for one schema document; `prefix` keeps the names of several documents apart."""

    def __init__(self, rules: Rules, document: Schema, prefix: str = "s") -> None:
        check_shape(document)
        self._rules = rules
        self._document = with_pointers(document)
        self._prefix = prefix
        self._count = 0
        # Schemas with a rule of their own: by what they refer to, or by what they are combined from.
        self._apart: dict[str, Rule] = {}
        self._combined = 0
        # Those that are not written yet: they are deferred, so that no chain of them is too deep.
        self._unwritten: list[tuple[str, Any, str]] = []
        # The others that each of them may begin with, before writing any character.
        self._heads: dict[str, list[str]] = {}
        self._head: list[str] = []
        self._places: dict[str, str] = {}

    def root(self) -> Expression:
        """The values that the document allows. Raises GrammarError."""
        return self._finished(self.expression(self._document, ""))

    def members(self, notation: Notation) -> Expression:
        """The objects that the document allows, in another notation than JSON. Raises GrammarError."""
        schema = assertions(self._document, "") if isinstance(self._document, Mapping) else {}
        if schema.get("type") != "object" or schema.keys() - KEYWORDS["object"] - {"type"}:
            raise GrammarError("it does not only name properties")
        name = self._name("object")
        return self._finished(object_(self._rules, name, schema, "", self._inner, notation))

    def _finished(self, whole: Expression) -> Expression:
        """With all that it refers to."""
        while self._unwritten:
            key, schema, at = self._unwritten.pop()
            self._head = self._heads[key] = []
            self._rules.rule(self._apart[key].name, self.expression(schema, at), at)
        self._check_heads()
        return whole

    def _check_heads(self) -> None:
        """Refuse references that lead back to themselves without writing a character."""
        done: set[str] = set()
        for start in self._heads:
            path = {start: iter(self._heads[start])}
            while path:
                target = next(reversed(path))
                following = next(path[target], None)
                if following is None:
                    del path[target]
                    done.add(target)
                elif following in path:
                    raise GrammarError(f"{self._places[target]}/$ref leads back to itself")
                elif following not in done:
                    path[following] = iter(self._heads[following])

    def expression(self, schema: Schema, at: str) -> Expression:
        """The values that a part of the document allows; `at` is its place."""
        if schema is True:
            return self._rules.value()
        if not isinstance(schema, Mapping):
            raise GrammarError(f"{at or 'the schema'} must be an object or true")
        schema = assertions(schema, at)
        if not schema:
            return self._rules.value()
        if "$ref" in schema or "allOf" in schema:
            return self._whole(schema, at)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._options(key, schema, at)
        if "const" in schema or "enum" in schema:
            where = f"{at}/{'const' if 'const' in schema else 'enum'}"
            return self._rules.rule(self._name("values"), one_of(spelled_out(schema, at)), where)
        kinds = schema.get("type") or [
            kind for kind in KEYWORDS if kind != "integer" and schema.keys() & KEYWORDS[kind]
        ]
        for key in schema.keys() - OF_ANY - {"type"}:
            raise GrammarError(f"{at}/{key} is not supported")
        typed = [self._typed(kind, schema, at) for kind in dict.fromkeys([kinds] if isinstance(kinds, str) else kinds)]
        return typed[0] if len(typed) == 1 else choice(*typed)

    def _typed(self, kind: str, schema: Mapping[str, Any], at: str) -> Expression:
        if kind not in KEYWORDS:
            raise GrammarError(f"{at}/type is {kind!r}: it must be one of {', '.join(KEYWORDS)}")
        match kind:
            case "string":
                return string(self._rules, schema, at)
            case "integer" | "number":
                found = numeric(self._rules, kind, schema, at)
                return found if isinstance(found, Rule) else self._rules.rule(self._name(kind), found, at)
            case "boolean":
                return choice("true", "false")
            case "null":
                return sequence("null")
            case "array":
                return array(self._rules, self._name("array"), schema, at, self._inner, self._spelled)
        return object_(self._rules, self._name("object"), schema, at, self._inner)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}_{kind}"

    def _inner(self, schema: Schema, at: str) -> Expression:
        """An expression within another, after at least one character."""
        outside, self._head = self._head, []
        try:
            return self.expression(schema, at)
        finally:
            self._head = outside

    def _spelled(self, schema: Any) -> list[str] | None:
        """All values of a schema as JSON, if it spells them out."""
        if not isinstance(schema, Mapping):
            return None
        whole = together(conjuncts(schema), self._find, "")
        if "const" in whole or "enum" in whole:
            return spelled_out(whole, "")
        texts = {"boolean": ["true", "false"], "null": ["null"]}
        return texts.get(str(whole.get("type"))) if whole.keys() == {"type"} else None

    def _find(self, target: str) -> Any:
        return find(self._document, target) if target.startswith("#") else None

    def _whole(self, schema: Mapping[str, Any], at: str) -> Expression:
        """For references, allOf, and the keywords beside them."""
        parts = conjuncts(schema)
        if len(parts) > 1:
            return self._ruled(json.dumps(parts), lambda: together(parts, self._find, at), at)
        (part,) = parts
        if not isinstance(part, Mapping) or "$ref" not in part:
            return self.expression(part, f"{at}/allOf/0")
        rest = {key: value for key, value in assertions(part, at).items() if key != "$ref"}
        if rest:
            return self._ruled(json.dumps(part), lambda: together([{"$ref": part["$ref"]}, rest], self._find, at), at)
        return self._reference(part["$ref"], at)

    def _reference(self, target: str, at: str) -> Expression:
        if not target.startswith("#"):
            raise GrammarError(f"{at}/$ref leads out of the schema, and other documents are not fetched: {target[:80]}")
        found = find(self._document, target)
        if found is None:
            raise GrammarError(f"{at}/$ref refers to nothing: {target[:80]}")
        return self._ruled(target, lambda: found, target)

    def _ruled(self, key: str, schema: Callable[[], Any], at: str) -> Rule:
        """The rule of a schema, which is written later; the same for the same key."""
        self._head.append(key)
        if key not in self._apart:
            found = schema()
            self._combined += not key.startswith("#")
            if self._combined > MAX_COMBINED:
                raise GrammarError(f"it is too large: {at} is one of over {MAX_COMBINED} combined schemas")
            self._apart[key] = Rule(self._name("ref"))
            self._places[key] = at
            self._unwritten.append((key, found, at))
        return self._apart[key]

    def _options(self, key: str, schema: Mapping[str, Any], at: str) -> Expression:
        """anyOf or oneOf, and the keywords beside it, which apply to each option."""
        options: Sequence[Any] = schema[key]
        at = f"{at}/{key}"
        if beside := {other: value for other, value in schema.items() if other != key}:
            options = self._with(beside, options, at)
        if key == "oneOf" and not all_apart(options, self._document):
            raise GrammarError(f"{at} has options that one value could satisfy together: use anyOf")
        if all(isinstance(option, Mapping) and assertions(option).keys() == {"const"} for option in options):
            return self._rules.rule(self._name("values"), one_of([dumps(o["const"]) for o in options]), at)
        if beside:
            return choice(*(self._ruled(json.dumps(option), partial(dict, option), at) for option in options))
        return choice(*(self.expression(option, f"{at}/{i}") for i, option in enumerate(options)))

    def _with(self, beside: Mapping[str, Any], options: Sequence[Any], at: str) -> list[Any]:
        """Options combined with the keywords beside them; options that allow no value then are dropped."""
        left = []
        for i, option in enumerate(options):
            try:
                whole = together(conjuncts({"allOf": [beside, option]}), self._find, f"{at}/{i}")
                if "enum" in whole and not whole.keys() & {"anyOf", "oneOf"}:
                    spelled_out(whole, f"{at}/{i}")
            except NothingLeft:
                continue
            left.append(whole)
        if not left:
            raise NothingLeft(f"{at} allows nothing together with the keywords beside it")
        return left
