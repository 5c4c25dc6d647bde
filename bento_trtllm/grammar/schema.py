"""JSON Schema to a grammar whose every text is valid.

A keyword that the grammar would not enforce is refused by name, never ignored. What a schema leaves open is
written in one way: properties in the order of the schema and no others, no spaces but after `,` and `:`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bento_trtllm.grammar import integers
from bento_trtllm.grammar.expressions import Expression, Rule, choice, sequence
from bento_trtllm.grammar.formats import FORMATS
from bento_trtllm.grammar.grammar import ROOT, Grammar, GrammarError
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.limits import counts, limits
from bento_trtllm.grammar.shape import check_shape
from bento_trtllm.grammar.size import check_size
from bento_trtllm.grammar.texts import one_of
from bento_trtllm.grammar.values import all_apart, find, is_kind

ANNOTATIONS = {
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator"),
    *("$schema", "$id", "$comment", "$defs", "definitions"),
}
KEYWORDS = {
    "string": {"minLength", "maxLength", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
    "boolean": set[str](),
    "null": set[str](),
}
# Properties that may be left out, of one object: an engine's time for them grows with their square (OpenVINO GenAI
# 2026.4.1: 50 ms for 200, 45 s for 900).
MAX_OPTIONAL = 200

Schema = Mapping[str, Any] | bool


def compile_schema(schema: Schema) -> Grammar:
    """The grammar of a JSON Schema. Raises GrammarError, naming the keyword and where it stands."""
    check_size(schema)
    return make_grammar(lambda rules: SchemaRules(rules, schema).root())


def make_grammar(root: Callable[[Rules], Expression]) -> Grammar:
    """The grammar of what `root` writes into rules. Raises GrammarError."""
    rules = Rules()
    first = root(rules)
    return Grammar({ROOT: first, **rules.rules}, rules.places)


class SchemaRules:
    """Rules for one schema document; `prefix` keeps the names of several documents apart."""

    def __init__(self, rules: Rules, document: Schema, prefix: str = "s") -> None:
        check_shape(document)
        self._rules = rules
        self._document = document
        self._prefix = prefix
        self._count = 0
        self._references: dict[str, Rule] = {}
        # Parts that are referred to and not written yet: not at once, so that no chain of them is too deep.
        self._unwritten: list[str] = []
        # What each of them may begin with without a character of its own.
        self._heads: dict[str, list[str]] = {}
        self._head: list[str] = []

    def root(self) -> Expression:
        """The values that the document allows. Raises GrammarError."""
        whole = self.expression(self._document, "")
        while self._unwritten:
            target = self._unwritten.pop()
            self._head = self._heads[target] = []
            expression = self.expression(find(self._document, target), target)
            self._rules.rule(self._references[target].name, expression, target)
        self._check_heads()
        return whole

    def _check_heads(self) -> None:
        """Refuse references that lead back to themselves with no character written since."""
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
                    raise GrammarError(f"{target}/$ref leads back to itself")
                elif following not in done:
                    path[following] = iter(self._heads[following])

    def expression(self, schema: Schema, at: str) -> Expression:
        """The values that a part of the document allows; `at` says where it stands."""
        if schema is True or schema == {}:
            return self._rules.value()
        if not isinstance(schema, Mapping):
            raise GrammarError(f"{at or 'the schema'} must be an object or true")
        schema = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
        if not schema:
            return self._rules.value()
        for key, build in self._wholes().items():
            if key in schema:
                if key in ("const", "enum"):
                    # Whatever stands beside was true of the values, or the schema contradicts itself.
                    schema = {k: v for k, v in schema.items() if k in (key, "type")}
                    return build(self._of_type(schema, key), at)
                self._only(schema, {key}, at)
                return build(schema[key], at)
        kinds = schema.get("type") or self._guess(schema, at)
        if isinstance(kinds, list):
            options = [
                self._typed(kind, {k: v for k, v in schema.items() if k in KEYWORDS.get(kind, ())}, at)
                for kind in kinds
            ]
            self._only(schema, set().union(*(KEYWORDS[kind] for kind in kinds)), at)
            return choice(*options)
        return self._typed(kinds, {k: v for k, v in schema.items() if k != "type"}, at)

    def _wholes(self) -> dict[str, Callable[[Any, str], Expression]]:
        """Keywords that say everything by themselves."""
        return {
            "$ref": self._reference,
            "const": lambda values, at: self._values(values, f"{at}/const"),
            "enum": lambda values, at: self._values(values, f"{at}/enum"),
            "anyOf": self._any,
            "oneOf": self._one,
            "allOf": self._all,
        }

    @staticmethod
    def _of_type(schema: Mapping[str, Any], key: str) -> list[Any]:
        values = [schema["const"]] if key == "const" else schema["enum"]
        if not isinstance(values, list):
            raise GrammarError("enum must be an array")
        kinds = schema.get("type")
        if kinds is None:
            return values
        return [
            value
            for value in values
            if any(is_kind(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
        ]

    def _guess(self, schema: Mapping[str, Any], at: str) -> str:
        """The type that a schema without one is about. Other types would be valid too; one is enough."""
        for kind in ("object", "array", "string", "number"):
            if schema.keys() & KEYWORDS[kind]:
                return kind
        raise GrammarError(f"{at}/{next(iter(schema))} is not supported")

    def _only(self, schema: Mapping[str, Any], known: set[str], at: str) -> None:
        for key in schema.keys() - known - {"type"}:
            raise GrammarError(f"{at}/{key} is not supported here")

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}{self._count}_{kind}"

    def _typed(self, kind: Any, schema: Mapping[str, Any], at: str) -> Expression:
        if kind not in KEYWORDS:
            raise GrammarError(f"{at}/type is {kind!r}: it must be one of {', '.join(KEYWORDS)}")
        self._only(schema, KEYWORDS[kind], at)
        match kind:
            case "string":
                return self._string(schema, at)
            case "integer" | "number":
                return self._numeric(kind, schema, at)
            case "boolean":
                return choice("true", "false")
            case "null":
                return sequence("null")
            case "array":
                return self._array(schema, at)
        return self._object(schema, at)

    def _reference(self, target: Any, at: str) -> Expression:
        if not isinstance(target, str) or not target.startswith("#"):
            raise GrammarError(f"{at}/$ref must begin with #: other documents are not fetched")
        self._head.append(target)
        if target not in self._references:
            if find(self._document, target) is None:
                raise GrammarError(f"{at}/$ref leads nowhere: {target[:80]}")
            self._references[target] = Rule(self._name("ref"))
            self._unwritten.append(target)
        return self._references[target]

    def _inner(self, schema: Schema, at: str) -> Expression:
        """An expression within another, after at least one character."""
        outside, self._head = self._head, []
        try:
            return self.expression(schema, at)
        finally:
            self._head = outside

    def _values(self, values: list[Any], at: str) -> Expression:
        if not values:
            raise GrammarError(f"{at} allows no value")
        try:
            texts = [dumps(value) for value in values]
        except ValueError as error:
            raise GrammarError(f"{at} has a value that is not JSON") from error
        return self._rules.rule(self._name("values"), one_of(texts), at)

    def _any(self, options: Any, at: str) -> Expression:
        if not isinstance(options, list) or not options:
            raise GrammarError(f"{at}/anyOf must be an array of schemas")
        return self._options(options, f"{at}/anyOf")

    def _one(self, options: Any, at: str) -> Expression:
        if not isinstance(options, list) or not options:
            raise GrammarError(f"{at}/oneOf must be an array of schemas")
        if not all_apart(options, self._document):
            raise GrammarError(f"{at}/oneOf has options that one value could satisfy together: use anyOf")
        return self._options(options, f"{at}/oneOf")

    def _options(self, options: Sequence[Any], at: str) -> Expression:
        if all(isinstance(option, Mapping) and option.keys() - ANNOTATIONS == {"const"} for option in options):
            return self._values([option["const"] for option in options], at)
        return choice(*(self.expression(option, f"{at}/{i}") for i, option in enumerate(options)))

    def _all(self, options: Any, at: str) -> Expression:
        if not isinstance(options, list) or len(options) != 1:
            raise GrammarError(f"{at}/allOf is supported with one schema only")
        return self.expression(options[0], f"{at}/allOf/0")

    def _string(self, schema: Mapping[str, Any], at: str) -> Expression:
        if "format" in schema:
            self._only(schema, {"format"}, at)
            if schema["format"] not in FORMATS:
                raise GrammarError(f"{at}/format is {schema['format']!r}: supported are {', '.join(FORMATS)}")
            return sequence('"', self._rules.rule(schema["format"].replace("-", ""), FORMATS[schema["format"]]), '"')
        return self._rules.string(*counts(schema, "Length", at))

    def _numeric(self, kind: str, schema: Mapping[str, Any], at: str) -> Expression:
        if not schema:
            return self._rules.integer() if kind == "integer" else self._rules.number()
        low, high = limits(schema, at)
        options = integers.between(low, high)
        if kind == "number" and "exclusiveMaximum" not in schema and "exclusiveMinimum" not in schema:
            # Between two integers of the range a fraction is in it too; towards zero it is nearer to zero.
            above = integers.between(max(low or 0, 0), None if high is None else high - 1)
            below = integers.between(None if low is None else low + 1, -1 if high is None else min(high, -1))
            options += [sequence(option, self._rules.fraction()) for option in (*above, *below)]
        if not options:
            raise GrammarError(f"{at or 'the schema'} allows no number")
        return self._rules.rule(self._name(kind), choice(*options), at)

    def _array(self, schema: Mapping[str, Any], at: str) -> Expression:
        shortest, longest = counts(schema, "Items", at)
        if "prefixItems" in schema:
            first = schema["prefixItems"]
            if schema.get("items", True) is not False and longest != len(first):
                raise GrammarError(f"{at}/prefixItems goes with items: false, or with as many maxItems")
            if shortest != len(first):
                raise GrammarError(f"{at}/prefixItems goes with as many minItems")
            parts = [self._inner(item, f"{at}/prefixItems/{i}") for i, item in enumerate(first)]
            commas = [sequence(", ", part) if i else part for i, part in enumerate(parts)]
            return sequence("[", *commas, "]")
        if schema.get("items") is False:
            return sequence("[]")
        inside = f"{at}/items"
        item = self._rules.rule(self._name("item"), self._inner(schema.get("items", True), inside), inside)
        return self._rules.rule(self._name("array"), self._rules.array(item, shortest, longest), at)

    def _object(self, schema: Mapping[str, Any], at: str) -> Expression:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        further = schema.get("additionalProperties", True)
        if not isinstance(properties, Mapping) or not isinstance(required, list):
            raise GrammarError(f"{at}/properties must be an object, and required an array")
        missing = [name for name in dict.fromkeys(required) if name not in properties]
        if missing and further is False:
            raise GrammarError(f"{at}/required names {missing[0]}, which is no property")
        if not properties and not required:
            if further is False:
                return sequence("{}")
            if further is True or further == {}:
                return self._rules.object()
            value = self._rules.rule(self._name("item"), self._inner(further, f"{at}/additionalProperties"), at)
            return self._rules.rule(self._name("object"), self._rules.map(value), at)
        needed = set(required)
        pairs = [
            (name in needed, sequence(f"{dumps(name)}: ", self._inner(part, f"{at}/properties/{name}")))
            for name, part in [*properties.items(), *((name, further) for name in missing)]
        ]
        if len(pairs) - len(needed) > MAX_OPTIONAL:
            raise GrammarError(
                f"it is too large: {at}/properties has {len(pairs) - len(needed)} that may be left out, and at most "
                f"{MAX_OPTIONAL} go: require some, as OpenAI does with all"
            )
        return sequence("{", self._pairs(self._name("object"), pairs, at))

    def _pairs(self, name: str, pairs: Sequence[tuple[bool, Expression]], at: str) -> Expression:
        """The rest of an object after its brace: pairs in order, those that are not required left out or not."""
        after: dict[bool, Expression] = {False: sequence("}"), True: sequence("}")}
        for i, (required, pair) in reversed(list(enumerate(pairs))):
            # By whether a pair was written before, so that a comma stands between.
            now: dict[bool, Expression] = {}
            for begun in (False, True):
                taken = sequence(", " if begun else "", pair, after[True])
                expression = taken if required else choice(taken, after[begun])
                now[begun] = self._rules.rule(f"{name}_{i}{'b' if begun else 'a'}", expression, f"{at}/properties")
            after = now
        return after[False]
