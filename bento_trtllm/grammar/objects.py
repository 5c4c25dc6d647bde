"""A schema's keywords for objects: their properties, in the order of the schema and no others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bento_trtllm.grammar.expressions import Expression, choice, sequence
from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.limits import counts

Inner = Callable[[Any, str], Expression]


@dataclass(frozen=True)
class Notation:
    """How an object is written: around its pairs, between two, and a pair, of a key, its schema, and the value in JSON.

    `pair` raises GrammarError for what the notation has no form for. One that has no form for keys which the schema
    doesn't name is not `open`.
    """

    begin: str
    between: str
    end: str
    pair: Callable[[str, Any, Expression], Expression]
    open: bool = False


JSON = Notation("{", ", ", "}", lambda key, _, value: sequence(f"{dumps(key)}: ", value), open=True)
# The most optional properties of one object: an engine's time grows with their square (OpenVINO GenAI 2026.4.1: 50 ms
# for 200, 45 s for 900).
MAX_OPTIONAL = 200
# The most properties that are counted, if minProperties or maxProperties restrict more than `required` does.
MAX_COUNTED = 16


def object_(
    rules: Rules, name: str, schema: Mapping[str, Any], at: str, inner: Inner, notation: Notation = JSON
) -> Expression:
    """The objects that a schema's keywords allow. `inner` makes the expression of a subschema at a place.

    Raises GrammarError.
    """
    properties = schema.get("properties", {})
    required = list(dict.fromkeys(schema.get("required", [])))
    further = schema.get("additionalProperties", True)
    least, most = counts(schema, "Properties", at)
    missing = [key for key in required if key not in properties]
    if missing and further is False:
        raise GrammarError(f"{at}/required names {missing[0]}, which is not among the properties")
    if not properties and not required:
        if not notation.open:
            return _none(schema, notation, at)
        return _map(rules, name, schema, at, inner)
    for word in ("propertyNames", "patternProperties"):
        if word in schema:
            raise GrammarError(f"{at}/{word} is not supported beside properties")
    # Properties that are never allowed are left out.
    allowed = {key: part for key, part in properties.items() if part is not False}
    if lost := [key for key in required if properties.get(key) is False]:
        raise GrammarError(f"{at}/required names {lost[0]}, which allows no value")
    pairs = [
        (key in required, notation.pair(key, part, inner(part, f"{at}/properties/{key}")))
        for key, part in [*allowed.items(), *((key, further) for key in missing)]
    ]
    if len(pairs) - len(required) > MAX_OPTIONAL:
        raise GrammarError(
            f"it is too large: {at}/properties has {len(pairs) - len(required)} optional ones, and at most "
            f"{MAX_OPTIONAL} are supported: require some, as OpenAI requires all"
        )
    if least > len(pairs):
        raise GrammarError(f"{at}/minProperties is over {len(pairs)}, which are all that are named")
    if most is not None and most < len(required):
        raise GrammarError(f"{at}/maxProperties is below {len(required)}, which are required")
    if least <= len(required):
        least = 0
    if most is not None and most >= len(pairs):
        most = None
    counted = max(least, most or 0, 1)
    if counted > MAX_COUNTED:
        key = "minProperties" if least == counted else "maxProperties"
        raise GrammarError(f"{at}/{key} is enforced up to {MAX_COUNTED} beside optional properties")
    return sequence(notation.begin, _pairs(rules, name, pairs, notation, least, most, counted, f"{at}/properties"))


def _none(schema: Mapping[str, Any], notation: Notation, at: str) -> Expression:
    """The empty object, where that is what is meant: a list of properties that is empty, or no others allowed."""
    meant = "properties" in schema or schema.get("additionalProperties") is False
    if not meant or schema.get("additionalProperties") or schema.keys() & {"propertyNames", "patternProperties"}:
        raise GrammarError(f"{at}/properties has no names")
    return sequence(notation.begin, notation.end)


def _map(rules: Rules, name: str, schema: Mapping[str, Any], at: str, inner: Inner) -> Expression:
    """Any names, unless propertyNames restricts them, or patternProperties, beside which no others are written.

    A name may occur twice and counts once, so only some counts can be enforced.
    """
    least, most = counts(schema, "Properties", at)
    further = schema.get("additionalProperties", True)
    names = schema.get("propertyNames")
    where = f"{at}/additionalProperties"
    if "patternProperties" in schema:
        if names is not None or len(schema["patternProperties"]) != 1:
            raise GrammarError(f"{at}/patternProperties is enforced with one pattern, and no propertyNames beside it")
        ((pattern, further),) = schema["patternProperties"].items()
        names, where = {"pattern": pattern}, f"{at}/patternProperties/{pattern}"
    if least > 1:
        raise GrammarError(f"{at}/minProperties over 1 is not enforced where properties are not named")
    if further is False or most == 0:
        if least:
            raise GrammarError(f"{at}/minProperties allows no object here")
        return sequence("{}")
    if further in (True, {}) and not (least or most) and names is None:
        return rules.object()
    key: Expression | None = None
    if names is not None:
        key = inner({"allOf": [{"type": "string"}, names]}, f"{at}/propertyNames")
    value = rules.rule(f"{name}_value", inner(further, where), at)
    return rules.rule(name, rules.map(value, key, least, most), at)


def _pairs(
    rules: Rules,
    name: str,
    pairs: Sequence[tuple[bool, Expression]],
    notation: Notation,
    least: int,
    most: int | None,
    counted: int,
    at: str,
) -> Expression:
    """The rest of an object after its beginning: pairs in order, optional ones written or left out.

    There is a rule for each number of pairs already written, up to `counted`, so that commas are right and both counts
    hold.
    """
    reached = [{0}]
    for required, _ in pairs:
        taken = {min(count + 1, counted) for count in reached[-1] if most is None or count < most}
        reached.append(taken if required else reached[-1] | taken)
    after: dict[int, Expression] = {count: sequence(notation.end) for count in reached[-1] if count >= least}
    for i, (required, pair) in reversed(list(enumerate(pairs))):
        now: dict[int, Expression] = {}
        for count in reached[i]:
            options: list[Expression] = []
            following = after.get(min(count + 1, counted))
            if following is not None and (most is None or count < most):
                options.append(sequence(notation.between if count else "", pair, following))
            if not required and count in after:
                options.append(after[count])
            if options:
                expression = options[0] if len(options) == 1 else choice(*options)
                now[count] = rules.rule(f"{name}_{i}_{count}", expression, at)
        after = now
    return after[0]
