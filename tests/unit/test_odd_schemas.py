"""Schemas with odd values: each is compiled, or refused in words, and nothing else happens."""

from contextlib import suppress

import pytest

from bento_trtllm.grammar.grammar import GrammarError
from bento_trtllm.grammar.schema import compile_schema
from tests.support.odd import BASES, KEYWORDS, ODD, REFUSED_AS_JSON


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_it_is_compiled_or_refused(keyword: str) -> None:
    for name in ODD.keys() - REFUSED_AS_JSON:
        for base in BASES:
            schema = {**base, keyword: ODD[name]}
            for whole in (schema, {"type": "object", "properties": {"q": schema}}):
                with suppress(GrammarError):
                    compile_schema(whole)
