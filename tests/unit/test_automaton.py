"""Regular expressions with a group that is repeated, as automata: both ways against Python's `re`."""

import json
import random
import re

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.expressions import Choice, Repeat, parts, rules_in
from bento_trtllm.grammar.grammar import Grammar, GrammarError
from bento_trtllm.grammar.json import dumps
from bento_trtllm.grammar.patterns import whole
from bento_trtllm.grammar.schema import compile_schema, make_grammar
from tests.support.schemas import write

quick = settings(
    max_examples=100, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
LETTERS = ["a", "b", "é", '"', "\\", "\n", "🦙", "<", "-", "]", "\x01", "世"]


def of(pattern: str) -> Grammar:
    return make_grammar(lambda rules: whole(rules, pattern))


def reaches(grammar: Grammar, text: str) -> bool:
    follower = Ending(grammar)
    return follower.feed(text) and follower.complete


def _class(members: list[str], negated: bool) -> str:
    return f"[{'^' if negated else ''}{''.join(map(re.escape, members))}]"


CLASSES = st.builds(_class, st.lists(st.sampled_from(LETTERS), min_size=1, max_size=3), st.booleans())
LEAVES = st.one_of(st.sampled_from(LETTERS).map(re.escape), CLASSES, st.sampled_from([r"\d", r"\w", r"[^\W_]"]))
SIGNS = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "{0,2}"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        several.map("".join),
        several.map(lambda some: f"(?:{'|'.join(some)})"),
        st.builds("({}){}".format, inner, SIGNS),
    )


@st.composite
def repeated(draw: st.DrawFn) -> str:
    """A pattern with a group that is repeated, and is not empty."""
    inner = draw(st.recursive(LEAVES, _larger, max_leaves=6))
    assume(not re.fullmatch(inner, ""))
    return (
        draw(st.recursive(LEAVES, _larger, max_leaves=3)) + f"({inner}b?){draw(st.sampled_from(['*', '+', '{2,3}']))}"
    )


def string(pattern: str) -> Grammar:
    return compile_schema({"type": "string", "pattern": pattern})


def reaches_string(grammar: Grammar, text: str) -> bool:
    """Whether a JSON string with this content can come, with `<` as itself or as an escape."""
    follower = Ending(grammar)
    follower.feed('"')
    for part in re.split("(<)", text):
        mark = follower.mark()
        if not follower.feed(part if part == "<" else dumps(part)[1:-1]):
            follower.back(mark)
            if part != "<" or not follower.feed("\\u003c"):
                return False
    return follower.feed('"') and follower.complete


@pytest.mark.slow
@quick
@given(repeated(), st.booleans(), st.data())
def test_both_ways(pattern: str, anchored: bool, data: st.DataObject) -> None:
    try:
        bare = of(pattern)
        strings = string(f"^(?:{pattern})$" if anchored else pattern)
    except GrammarError as error:
        assert "what may be empty" in str(error)
        return
    assert any(name.startswith("state") for name in bare.rules)
    rng = random.Random(0)
    language = re.compile(pattern, re.ASCII)
    judge = language.fullmatch if anchored else language.search
    drawn, near = (
        data.draw(st.from_regex(language, fullmatch=True)),
        data.draw(st.text(st.sampled_from(LETTERS), max_size=5)),
    )
    # Python tries the ways to divide a text one after the other: it must be short.
    for text in (drawn[:9], near, (near + drawn)[:9], drawn[1:9]):
        assert reaches(bare, text) == bool(language.fullmatch(text)), text
        assert reaches_string(strings, text) == bool(judge(text)), text
    for _ in range(3):
        ours, theirs = write(bare, rng, 12), json.loads(write(strings, rng, 12))
        assert language.fullmatch(ours), ours
        assert judge(theirs), theirs


def test_a_surrogate_pair_is_one_character() -> None:
    llamas = string(r"^(\ud83e\udd99b?|[^\ud83e\udd99]{2})+$")
    assert reaches_string(llamas, '🦙🦙b\n"') and not reaches_string(llamas, "🦙a🦙")


AMBIGUOUS = {
    "([^a]b?)+": 2,
    "([^a]+b?)+": 2,
    "([^a]b?)*([^c]d?)*x": 4,
    "([^a]b?)*([^c]d?)*([^e]f?)*x": 6,
    "(([^a]b?){1,3}c?)+x": 3,
    r"(\w+( |-))+\w+": 4,
    "(a|b)*a(a|b){3}": 16,
}


@pytest.mark.parametrize("pattern", AMBIGUOUS)
def test_each_character_leads_to_one_state(pattern: str) -> None:
    grammar = of(pattern)
    states = {name: rule for name, rule in grammar.rules.items() if name.startswith("state")}
    assert len(states) == AMBIGUOUS[pattern]
    for rule in states.values():
        for option in rule.options if isinstance(rule, Choice) else (rule,):
            assert len(list(rules_in(option))) <= 1
            assert not any(isinstance(part, Repeat) for part in parts(option))


def test_a_long_text_leaves_one_way() -> None:
    follower = Ending(of("([^a]+b?)+"))
    assert follower.feed("xb" * 1000)
    assert len(follower.mark().stacks) <= 4
    assert follower.shortest() == ""


def test_a_group_that_leaves_no_doubt_may_have_long_counts() -> None:
    grammar = of("([a-z]{1,500}-)+")
    assert not any(name.startswith("state") for name in grammar.rules)
    assert reaches(grammar, "a" * 500 + "-b-")
    assert not reaches(grammar, "a" * 501 + "-")


@pytest.mark.parametrize("pattern", ["(a|b)", "([a-z])+", "[^a]+x(bc)?", "[^a]*[^b]*"])
def test_without_a_repeated_group_there_is_no_automaton(pattern: str) -> None:
    assert not any(name.startswith("state") for name in of(pattern).rules)


@pytest.mark.parametrize("pattern", ["([^a]{1,100}b?){1,100}", "(a|b)*a(a|b){16}", "(.{0,2000}b?x)+"])
def test_too_many_states(pattern: str) -> None:
    for make in (of, lambda one: string(f"^(?:{one})$")):
        with pytest.raises(GrammarError, match=r"too many ways to divide a text.*fewer or smaller counts"):
            make(pattern)


def test_the_states_of_a_whole_schema_are_bounded() -> None:
    patterns = [f"^([^{chr(0x4E00 + i)}]{{5}}b?){{4}}$" for i in range(8)]
    properties = {f"p{i}": {"type": "string", "pattern": one} for i, one in enumerate(patterns)}
    with pytest.raises(GrammarError, match=r"/properties/p[0-9]+/pattern has a repeated group"):
        compile_schema({"type": "object", "properties": properties})
    compile_schema({"type": "object", "properties": dict.fromkeys(properties, properties["p0"])})


def test_a_length_beside_a_long_automaton() -> None:
    """Whose states are more than Python's recursion is deep."""
    grammar = compile_schema({"type": "string", "pattern": "^(ab){1,200}$", "maxLength": 10})
    assert reaches(grammar, '"' + "ab" * 5 + '"') and not reaches(grammar, '"' + "ab" * 6 + '"')
