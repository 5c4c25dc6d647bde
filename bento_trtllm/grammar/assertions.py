"""A schema's assertions, which restrict values, without its annotations, which do not."""

from collections.abc import Mapping
from typing import Any

from bento_trtllm.grammar.grammar import GrammarError

ANNOTATIONS = {
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
    *("contentMediaType", "contentEncoding", "contentSchema"),
    *("$schema", "$id", "$anchor", "$comment", "$defs", "definitions"),
    *("discriminator", "example", "externalDocs", "xml"),  # OpenAPI's
}
# Annotations: these do not restrict values.
VACUOUS: dict[str, tuple[Any, ...]] = {
    "uniqueItems": (False,),
    "nullable": (False,),
    "propertyNames": (True, {}, {"type": "string"}),
}


def assertions(schema: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """The keywords that a value has to satisfy. Raises GrammarError for `nullable: true`.

    That is OpenAPI 3.0's way to allow null, and not part of JSON Schema: a null would not satisfy the schema, and
    without null OpenAPI's meaning would be lost.
    """
    if schema.get("nullable") is True:
        raise GrammarError(
            f'{at}/nullable is not a keyword of JSON Schema: write "type": ["string", "null"] or the like'
        )
    return {
        key: value
        for key, value in schema.items()
        if key not in ANNOTATIONS and not key.startswith("x-") and not any(value == v for v in VACUOUS.get(key, ()))
    }
