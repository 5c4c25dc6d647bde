"""Sets of characters, and how a character of a set is written within a JSON string."""

from collections.abc import Iterable
from dataclasses import dataclass

from bento_trtllm.grammar.expressions import Characters, Expression, Literal, choice
from bento_trtllm.grammar.json import Rules, dumps
from bento_trtllm.grammar.texts import one_of

LAST = 0x10FFFF
Ranges = tuple[tuple[int, int], ...]
SURROGATES: Ranges = ((0xD800, 0xDFFF),)


@dataclass(frozen=True)
class CharacterSet:
    """Ranges of code points, both ends included, sorted and with gaps between them."""

    ranges: Ranges

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> "CharacterSet":
        """From ranges in any order."""
        joined: list[tuple[int, int]] = []
        for low, high in sorted(ranges):
            if joined and low <= joined[-1][1] + 1:
                joined[-1] = joined[-1][0], max(joined[-1][1], high)
            else:
                joined.append((low, high))
        return cls(tuple(joined))

    def __or__(self, other: "CharacterSet") -> "CharacterSet":
        return self.of([*self.ranges, *other.ranges])

    def __invert__(self) -> "CharacterSet":
        starts = [0, *(high + 1 for _, high in self.ranges)]
        ends = [*(low - 1 for low, _ in self.ranges), LAST]
        return CharacterSet(tuple((low, high) for low, high in zip(starts, ends, strict=True) if low <= high))

    def __contains__(self, character: str) -> bool:
        return any(low <= ord(character) <= high for low, high in self.ranges)

    @property
    def size(self) -> int:
        """How many characters it has."""
        return sum(high - low + 1 for low, high in self.ranges)

    def bare(self) -> Expression | None:
        """One of them unescaped, for a text outside JSON; None if the set has no character that a text can contain."""
        return _one(~(~self | CharacterSet(SURROGATES)))

    def written(self, rules: Rules) -> Expression | None:
        """One of them within a JSON string; None if the set has no character that a text can contain.

        `<` can always be written as an escape and, in a set with other characters, also as itself: see `dumps`.
        """
        alone = self == CharacterSet.of([(ord("<"), ord("<"))])
        raw = ~(~self | UNWRITTEN | (ANGLE if alone else CharacterSet(())))
        escaped = [dumps(chr(code))[1:-1] for code in ESCAPED if chr(code) in self]
        options = [one for one in [_one(raw)] if one is not None]
        if len(escaped) > 1:
            name = "escaped_" + "_".join(f"{low:x}_{high:x}" for low, high in _within(self.ranges))
            options.append(rules.rule(name, one_of(escaped)))
        else:
            options += map(Literal, escaped)
        return None if not options else options[0] if len(options) == 1 else choice(*options)


def _one(raw: CharacterSet) -> Expression | None:
    """One character of a set, unescaped."""
    if len(raw.ranges) == 1 and raw.ranges[0][0] == raw.ranges[0][1]:
        return Literal(chr(raw.ranges[0][0]))
    if not raw.ranges:
        return None
    # A set that lacks only a few characters is written negated. No text has surrogates, and xgrammar (OpenVINO GenAI
    # 2026.4.1) fails on negated classes with characters beyond ASCII.
    lacking = ~(raw | CharacterSet(SURROGATES))
    negated = bool(lacking.ranges) and lacking.ranges[-1][1] < 0x80
    shown = (lacking if negated else raw).ranges
    return Characters(tuple((chr(low), chr(high)) for low, high in shown), negated)


def _within(ranges: Ranges) -> Ranges:
    """The part of the ranges whose characters are escaped."""
    return tuple((low, min(high, ESCAPED[-1])) for low, high in ranges if low <= ESCAPED[-1])


ESCAPED = [*range(0x20), ord('"'), ord("<"), ord("\\")]
ANGLE = CharacterSet.of([(ord("<"), ord("<"))])
UNWRITTEN = CharacterSet.of([(0, 0x1F), (ord('"'), ord('"')), (ord("\\"), ord("\\")), *SURROGATES])
DIGITS = CharacterSet.of([(0x30, 0x39)])
WORD = CharacterSet.of([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
# ECMA-262's WhiteSpace and LineTerminator.
LINE_ENDS = CharacterSet.of([(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)])
SPACE = LINE_ENDS | CharacterSet.of(
    [(0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A)]
    + [(code, code) for code in (0x202F, 0x205F, 0x3000, 0xFEFF)]
)
