"""Grammars of clients in EBNF, both ways: every text of ours is one of theirs, and every text of theirs can come."""

import random
import re
from functools import lru_cache
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bento_trtllm.generation.errors import InvalidRequest
from bento_trtllm.generation.results import TextDelta
from bento_trtllm.grammar import ebnf_reader, ebnf_rules, ending
from bento_trtllm.grammar.ending import Ending
from bento_trtllm.grammar.expressions import Rule
from bento_trtllm.grammar.grammar import ROOT, Grammar, GrammarError
from bento_trtllm.grammar.schema import make_grammar
from tests.support.schemas import write
from tests.support.scripted_source import END, ScriptedSource, Stage, ask
from tests.support.virtual_time import run


@lru_cache(maxsize=64)
def compiled(text: str) -> Grammar:
    return make_grammar(lambda rules: ebnf_rules.grammar(rules, text))


def reaches(grammar: Grammar, text: str) -> bool:
    follower = Ending(grammar)
    return follower.feed(text) and follower.complete


SQL = r"""
    # As in vLLM's examples.
    root ::= select_statement
    select_statement ::= "SELECT " column " from " table " where " condition
    column ::= "col_1 " | "col_2 "
    table ::= "table_1 " | "table_2 "
    condition ::= column "= " number
    number ::= "1 " | "2 "
"""
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
# An empty alternative is GBNF's.
ws ::= | " " | "\n" [ \t]{0,20}
"""
ARITHMETIC = """root  ::= (expr "=" ws term "\\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \\t\\n]*
"""
# A grammar, texts of it, and texts that are none.
KNOWN: dict[str, tuple[str, list[str], list[str]]] = {
    "SQL": (SQL, ["SELECT col_1  from table_2  where col_2 = 1 "], ["SELECT col_3  from table_2 ", ""]),
    "JSON": (JSON, ['{"a\\n": [1.5e+1, {}, "é🦙"]}', "{}", "{\n   }\n"], ["[]", '{"a": }', '{"a\n": 1}']),
    "arithmetic": (ARITHMETIC, ["1+(a_1 *2)= 3\n", "a=b\na=b\n"], ["1+=2\n", "1=2", ""]),
    "escapes": (
        r'root ::= "\x41\u00e9\U0001F999\"\\\/\n\0\e" [\]\-^"] [a-]+',
        ['Aé🦙"\\/\n\0\x1b]-a', 'Aé🦙"\\/\n\0\x1b"a'],
        ["A"],
    ),
    "any": (r"root ::= [^] [^\n]{2} [^é-ü\u4e00]?", ["\nab", "a世é世"], ["ab", "a\nb", "abcé"]),
    "counts": (
        'root ::= ("ab" | "c"){2} "d"{0} "e"{1,} [0-9]{1,3}',
        ["abce1", "ccee123"],
        ["abe1", "abcd1", "abc1", "cce1234"],
    ),
    "dots and hyphens": ('root ::= a-b.c\n a-b.c ::= \n "x" # a comment ::=\n | "y"', ["x", "y"], [""]),
    "what may be empty, again and again": (
        'root ::= (a? b?)* (c){2,3}\na ::= "a"\nb ::= "" | "b" b\nc ::= ("c" d?)?\nd ::= "d"*',
        ["", "aabba", "ccdd", "bcd"],
        ["d", "cccc"],
    ),
    "within itself": ('root ::= "(" root* ")"', ["()", "((()())())"], ["", "(()"]),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_texts_of_known_grammars(name: str) -> None:
    text, good, bad = KNOWN[name]
    grammar = compiled(text)
    rng = random.Random(7)
    for one in [*good, *(write(grammar, rng, rng.choice((5, 50, 300))) for _ in range(20))]:
        assert reaches(grammar, one), one
        for end in range(0, min(len(one), 60), 3):
            follower = Ending(grammar)
            assert follower.feed(one[:end])
            assert reaches(grammar, one[:end] + follower.shortest())
    for one in bad:
        assert not reaches(grammar, one), one


class Drawn(NamedTuple):
    """One language three times."""

    ebnf: str
    pattern: str
    texts: list[str]


LETTERS = st.sampled_from(["a", "b", "ab", "é", '"', "\\", "]", "-", "^", "\n", "🦙", "<|eot_id|>"])


COUNTS = [(0, None, "*"), (1, None, "+"), (0, 1, "?"), (2, 2, "{2}"), (1, 3, "{1,3}"), (2, None, "{2,}")]


@st.composite
def drawn(draw: st.DrawFn, depth: int = 3) -> Drawn:
    """An element, as EBNF, as a regular expression, and some of its texts."""
    kind = draw(st.sampled_from(["text", "class", "empty"] + ["sequence", "options", "count"] * depth))
    if kind == "empty":
        return Drawn('""', "", [""])
    if kind == "text":
        text = draw(LETTERS)
        return Drawn(_quoted(text), re.escape(text), [text])
    if kind == "class":
        members = draw(st.lists(LETTERS.filter(lambda letter: len(letter) == 1), min_size=1, max_size=3))
        negated = "^" if draw(st.booleans()) else ""
        ebnf, pattern = ("".join(f"\\U{ord(one):08x}" for one in members) for _ in range(2))
        texts = [one for one in "ab世z" if one not in members] if negated else members
        return Drawn(f"[{negated}{ebnf}]", f"[{negated}{pattern}]", texts[:2])
    if kind == "count":
        least, most, sign = draw(st.sampled_from(COUNTS))
        one = draw(drawn(depth - 1))
        often = range(least, (least + 2 if most is None else most) + 1)
        texts = ["".join(draw(st.sampled_from(one.texts)) for _ in range(count)) for count in often]
        return Drawn(f"({one.ebnf}){sign}", f"(?:{one.pattern}){sign}", texts)
    several = draw(st.lists(drawn(depth - 1), min_size=1, max_size=3))
    if kind == "options":
        texts = [text for one in several for text in one.texts]
        ebnf, pattern = " | ".join(one.ebnf for one in several), "|".join(one.pattern for one in several)
        return Drawn(f"({ebnf})", f"(?:{pattern})", texts)
    whole = ["".join(draw(st.sampled_from(one.texts)) for one in several) for _ in range(3)]
    return Drawn(" ".join(one.ebnf for one in several), "".join(one.pattern for one in several), whole)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(drawn(), st.booleans())
def test_both_ways(one: Drawn, apart: bool) -> None:
    """Against Python's regular expressions."""
    text = f'root ::= "." part "."\npart ::= {one.ebnf}' if apart else f'root ::= "." ({one.ebnf}) "."'
    grammar = compiled(text)
    rng = random.Random(0)
    for _ in range(5):
        ours = write(grammar, rng, 60)
        assert reaches(grammar, ours), ours
        assert re.fullmatch(rf"\.(?:{one.pattern})\.", ours), ours
    for theirs in one.texts:
        assert reaches(grammar, f".{theirs}."), theirs


@st.composite
def calling(draw: st.DrawFn, depth: int = 3) -> str:
    """An element that may refer to the rules r and s, between brackets or not; what it repeats is not empty."""
    kind = draw(st.sampled_from(["text", "class", "call"] + ["sequence", "options", "count"] * depth))
    if kind == "text":
        return draw(st.sampled_from(['"a"', '"b"', '"ab"']))
    if kind == "class":
        return draw(st.sampled_from(["[^a<>]", "[^<>]", "[ab]", "[a-z]"]))
    if kind == "call":
        return draw(st.sampled_from(['"<" r ">"', '"<" s ">"', '"<" r', '"a" s']))
    if kind == "count":
        return f"({draw(calling(depth - 1))}){draw(st.sampled_from(['*', '+', '?', '{2}']))}"
    several = draw(st.lists(calling(depth - 1), min_size=1, max_size=3))
    return f"({(' | ' if kind == 'options' else ' ').join(several)})"


@pytest.mark.slow
@settings(max_examples=75, deadline=None)
@given(calling(), calling(), calling())
def test_rules_that_refer_to_themselves_both_ways(root: str, r: str, s: str) -> None:
    """Against the same grammar, read as it stands."""
    text = f'root ::= r s {root} "."\nr ::= "a" | {r}\ns ::= "b" | "<" {s}'
    definitions = ebnf_reader.read(text).rules
    plain = Grammar({ROOT: definitions.pop(ROOT), **definitions})
    grammar = compiled(text)
    rng = random.Random(0)
    for one, other in ((grammar, plain), (plain, grammar)):
        for _ in range(5):
            written = write(one, rng, 40)
            assert reaches(other, written), written


def classes(count: int, sign: str = "") -> str:
    return " ".join(f"[^{chr(0x4E00 + i)}]{sign}" for i in range(count))


HEAVY = {
    "an item that may end early": ('root ::= item+\nitem ::= [^a] "b"?', "[^a]", ["b", "cbb"], ["", "a", "ca"]),
    "within what is called": (
        'root ::= value\nvalue ::= "{" item+ "}"\nitem ::= [^a{}] "b"? | value',
        "[^a{}]",
        ["{b}", "{c{db}e}"],
        ["{}", "{a}", "{c"],
    ),
    "what is called": ('root ::= s+\ns ::= [^()] | "(" s* ")"', "[^(-)]", ["a(b()c)d", "()"], ["", "(", "a)"]),
    "repetitions in one another": ('root ::= ([a-z]+ " "?)* "."', "[a-z]", ["a bc.", "."], ["a  b.", "a"]),
    "of what may be empty": (
        'root ::= "<" x x ">"\nx ::= ("(" x ")" [^()<>]?)*',
        "[^(-)<>]",
        ["<>", "<(())a()>"],
        ["<a>", "<(>"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEAVY)
def test_after_one_of_many_characters_an_engine_stays_in_the_rule(name: str) -> None:
    """The rule that such a character is followed by is the last of its own, so that none has to be left for another."""
    text, many, good, bad = HEAVY[name]
    grammar = compiled(text)
    ways = [way for line in grammar.ebnf.splitlines() for way in line.partition(" ::= ")[2].split(" | ")]
    assert {len(way.split(" ")) for way in ways if way.startswith(many)} == {2}
    assert all(way.startswith(many) for way in ways if many in way)
    assert all(reaches(grammar, one) for one in good)
    assert not any(reaches(grammar, one) for one in bad)


REFUSED = {
    "nothing": ("", "no rule root"),
    "no root": ('a ::= "x"', "no rule root"),
    "Lark": ('start: "a"', "line 1, column 1.*xgrammar's EBNF"),
    "a rule that is not there": ('root ::= "a"\n  | b', "line 2, column 5: there is no rule b"),
    "a rule that nothing leads to": ('root ::= "a"\nb ::= c\nc ::= "c"', "line 2, column 1: nothing in root .* rule b"),
    "a rule twice": ('root ::= "a"\nroot ::= "b"', "line 2, column 1: the rule root is there twice"),
    "a rule that never ends": ('root ::= "a" | b\nb ::= "b" b', "line 2, column 1: the rule b never ends"),
    "rules that never end": ('root ::= "a" b\nb ::= "b" c\nc ::= "c" b | b', "never ends"),
    "left recursion": ('root ::= root "a" | "a"', "line 1, column 1: the rule root begins with itself"),
    "hidden left recursion": ('root ::= a\na ::= b? [x]* a "x" | "y"\nb ::= "z"', "the rule a begins with itself"),
    "two in one line": ('root ::= a\na ::= "x" b ::= "y"', "line 2, column 11: the rule b does not begin on a line"),
    "an open text": ('root ::= "a\n"', "line 1, column 10: this text has no end"),
    "an open class": ("root ::= [a", "line 1, column 10: this class has no end"),
    "an empty class": ("root ::= []", "column 10: this class has no character"),
    "a range": ("root ::= [z-a]", "column 11: this range ends before"),
    "a shorthand": (r"root ::= [\d]", r"column 11: \\d is not supported"),
    "an escape": (r'root ::= "\d"', r"column 11: \\d is no escape"),
    "half a pair": (r'root ::= "\ud83d"', "column 11: .*not a character"),
    "a raw half": ('root ::= "\ud83d"', "column 11: .*half of a surrogate pair"),
    "single quotes": ("root ::= 'a'", "column 10: a text in double quotes"),
    "an open group": ('root ::= "a" (\n"b"', "line 1, column 14: there is no \\) for this"),
    "a closed group": ('root ::= "a" )', "column 14: there is a \\) without"),
    "two counts": ('root ::= "a"+?', "column 14: one repetition follows another"),
    "a count": ('root ::= "a"{,3}', "column 13: counts are written"),
    "an upside-down count": ('root ::= "a"{3,2}', "the most, 2, is less than the least, 3"),
    "a large count": ('root ::= "a"{200}', "at most 128 may be required"),
    "a macro": ('root ::= Regex("a")', r"column 10: Regex\(…\) is not supported"),
    "an option": ('root[lazy] ::= "a"', "column 1: options of a rule"),
    "lookahead": ('root ::= "x" (= "a")', "column 14: lookahead"),
    "the empty text": ('root ::= a* ""\na ::= ""', "nothing but the empty text"),
    "depth": ("root ::= " + "(" * 100 + '"a"' + ")" * 100, "column 74: groups are nested over 64 deep"),
    "length": ('root ::= "' + "a" * 70_000 + '"', "too large: it has 70011 characters"),
    "elements": ("root ::= " + "[a]" * 12_000, "it is too large: here begins what is over 10000 elements"),
    "a long text": (
        "\n".join(["root ::= r0", *(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(14)), 'r14 ::= "x"']),
        "too large: the shortest text of the rule r0 has 16384 characters",
    ),
    "repetitions of repetitions": (
        'root ::= "x" c\nb ::= ([^x] | "(" b ")")+\nc ::= b*',
        "line 3, column 1: the rule c has a repetition in a repetition, with nothing between",
    ),
    "a mirror": (
        'root ::= "<" s ">"\ns ::= [^<>] s [^<>] | [^<>]',
        "line 2, column 1: the rule s has itself in it with more behind",
    ),
    "a mirror of two rules": (
        'root ::= "(" a ")"\na ::= [^()]* b "!"?\nb ::= "x"? [a-z] a | "(" a ")" | "."',
        "line 2, column 1: the rule a has itself in it with more behind",
    ),
    "itself again and again": ('root ::= s\ns ::= [^<>] s* | "<>"', "the rule s has itself in it with more behind"),
    "too many ways": (
        'root ::= "x" b\na ::= [^x]{1,100} "y"?\nb ::= "z"? a{1,99}',
        "line 3, column 1: the rule b has a repeated group that leaves too many ways to divide a text",
    ),
    "ways": ("root ::= " + " | ".join(f"[{chr(0x4e00 + i)}]" for i in range(300)), "root begins in 300 ways"),
    "classes": ("root ::= " + classes(200), "over 128 classes of many characters"),
    "counted classes": ("root ::= " + classes(100, "{9}"), "lengths of strings add up to over 256"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_and_where(name: str) -> None:
    text, message = REFUSED[name]
    with pytest.raises(GrammarError, match=message):
        compiled(text)


def chain(body: str) -> str:
    """Of more rules than Python's recursion is deep."""
    return "\n".join(f"r{i} ::= {body.format(i + 1)}" for i in range(1500)) + '\nr1500 ::= "x"'


HOSTILE = {
    "comments": "root ::= x " + "# " * 30_000,
    "a comment behind a name": "root" + "# " * 30_000,
    "a long name": "a" * 65_000,
    "names": "root ::= " + "a " * 9_000,
    "open groups": "root ::= " + "(" * 60_000,
    "nested stars": "root ::= " + "(" * 60 + '"a"' + '* "b"?)' * 60,
    "nested counts": "root ::= " + "(" * 20 + '"a"' + ' "b"?){0,5}' * 20,
    "nested counts of what may be empty": "root ::= " + "(" * 20 + '"a"?' + ' "b"?){0,5}' * 20,
    "nested wide counts": "root ::= " + "(" * 20 + '[^a]' + ' "b"?){0,5}' * 20,
    "nested pluses": "root ::= " + "(" * 60 + '[^a]+' + ' "b"?)+' * 60,
    "doubling": "\n".join(f"r{i} ::= r{i + 1}? r{i + 1}?" for i in range(60)).replace("r0", "root") + '\nr60 ::= "x"',
    "a long chain": "root ::= r0\n" + chain('r{} "a"'),
    "a long chain of nothing": "root ::= r0\n" + chain("r{}?"),
    "a counted chain of nothing": "root ::= (r0){2}\n" + chain("r{}?"),
    "doubled beginnings": "root ::= r0+\n"
    + "\n".join(f'r{i} ::= r{i + 1} "a" | r{i + 1} "b"' for i in range(60)) + '\nr60 ::= "x"',
    "many that may be empty": "root ::= (" + '"a"? ' * 250 + ")*",
    "many that may be empty, counted": "root ::= (" + '"a"? ' * 250 + "){0,9}",
    "many words": "root ::= (" + " | ".join(f'"w{i}"' for i in range(2000)) + ")*",
    "long texts": "root ::= " + " | ".join(f'"{"a" * i}"' for i in range(1, 300)),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_takes_long(name: str) -> None:
    """All of these end; what is taken can be followed."""
    try:
        grammar = compiled(HOSTILE[name])
    except GrammarError:
        return
    text = write(grammar, random.Random(0), 50)
    assert reaches(grammar, text)


AMBIGUOUS = 'root ::= s "."\ns ::= "x" s "a" | "x" s "b" | "y"'


def test_a_text_that_can_be_understood_in_many_ways_is_followed_in_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each x may mean either letter at the end: 2^200 ways."""
    for name, value in {"MAX_OPEN": 64, "USUAL": 16, "LONG": 40, "SWEEP": 500}.items():
        monkeypatch.setattr(ending, name, value)
    follower = Ending(compiled(AMBIGUOUS))
    most = 0
    for _ in range(200):
        assert follower.feed("x")
        most = max(most, len(follower._stacks))
    assert most == 64 and len(follower._stacks) == 16 and len(follower._made) < 2000
    assert follower.left == len(follower.shortest()) == 202
    assert follower.feed(follower.shortest()) and follower.complete


def test_an_answer_is_whole_with_any_number_of_tokens() -> None:
    """On single bytes, cut anywhere."""
    text = '{"é": [1, {"b": "c\\n"}, true],\n\t"d": ""}'
    grammar = compiled(JSON)
    least = len(grammar.shortest(Rule(ROOT)).encode())

    async def answer(max_tokens: int) -> tuple[str, Any]:
        stage = Stage(ScriptedSource([*text.encode(), END][:max_tokens]))
        items = [item async for item in stage.generator.stream(ask(max_tokens=max_tokens, grammar=grammar))]
        return "".join(item.text for item in items if isinstance(item, TextDelta)), items[-1]

    for max_tokens in range(1, len(text.encode()) + 2):
        if max_tokens < least:
            with pytest.raises(InvalidRequest, match=f"takes {least} tokens: allow more"):
                run(answer(max_tokens))
            continue
        found, finish = run(answer(max_tokens))
        assert reaches(grammar, found) and finish.usage.completion_tokens <= max_tokens
        assert finish.reason == "length" or found == text
