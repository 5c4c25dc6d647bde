"""Reads the characters of a regular expression: escapes and classes."""

import re
from typing import NoReturn

from bento_trtllm.grammar.charset import DIGITS, LAST, SPACE, WORD, CharacterSet
from bento_trtllm.grammar.grammar import GrammarError

CLASSES = {"d": DIGITS, "w": WORD, "s": SPACE, "D": ~DIGITS, "W": ~WORD, "S": ~SPACE}
CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}


class PatternReader:
    """A pattern, and the position in it. Each method raises GrammarError for what is not supported."""

    def __init__(self, pattern: str, at: str) -> None:
        self.pattern = pattern
        self.next = 0
        self._at = at

    @property
    def rest(self) -> bool:
        """Whether there is more of the pattern."""
        return self.next < len(self.pattern)

    def refuse(self, what: str) -> NoReturn:
        raise GrammarError(f"{self._at}/pattern has {what}, which is not supported: {self.pattern[:80]}")

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.next)

    def take(self, text: str) -> bool:
        if not self.peek(text):
            return False
        self.next += len(text)
        return True

    def one(self) -> str:
        if not self.rest:
            self.refuse("no end")
        self.next += 1
        return self.pattern[self.next - 1]

    def char_class(self) -> CharacterSet:
        negated = self.take("^")
        if self.peek("]"):
            self.refuse("[^]" if negated else "[]")
        whole = CharacterSet(())
        while not self.take("]"):
            low = self._member()
            if self.peek("-") and not self.peek("-]"):
                self.next += 1
                high = self._member()
                ends = low.ranges, high.ranges
                if all(len(end) == 1 and end[0][0] == end[0][1] for end in ends):
                    first, last = ends[0][0][0], ends[1][0][0]
                    if first > last:
                        self.refuse("a range that ends before it begins")
                    low = CharacterSet(((first, last),))
                else:
                    # Next to a class such as \w, a hyphen is literal.
                    low = low | single("-") | high
            whole = whole | low
        return ~whole if negated else whole

    def _member(self) -> CharacterSet:
        character = self.one()
        return self.escape(within=True) if character == "\\" else single(character)

    def escape(self, *, within: bool) -> CharacterSet:
        """The character or class that follows a backslash."""
        character = self.one()
        if character in CLASSES:
            return CLASSES[character]
        if character in CONTROLS:
            return single(CONTROLS[character])
        if character == "b" and within:
            return single("\b")
        if character in "bB":
            self.refuse(f"\\{character}, a boundary of words,")
        if character in "k123456789":
            self.refuse(f"\\{character}, a backreference,")
        if character in "pP":
            self.refuse(f"\\{character}, a property of Unicode,")
        if character == "0" and not re.match("[0-9]", self.pattern[self.next :][:1]):
            return single("\0")
        if character == "c" and re.match("[A-Za-z]", self.pattern[self.next :][:1]):
            return single(chr(ord(self.one()) % 32))
        if character == "x":
            return _code(self._hexadecimal(r"([0-9a-fA-F]{2})", "x"))
        if character == "u":
            return self._unicode()
        if character.isascii() and character.isalnum():
            self.refuse(f"\\{character}")
        return single(character)

    def _unicode(self) -> CharacterSet:
        if self.peek("{"):
            return _code(self._hexadecimal(r"\{([0-9a-fA-F]{1,6})\}", "u"))
        code = self._hexadecimal(r"([0-9a-fA-F]{4})", "u")
        if 0xD800 <= code < 0xDC00 and self.take("\\u"):
            low = self._hexadecimal(r"([dD][c-fC-F][0-9a-fA-F]{2})", "u")
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return _code(code)

    def _hexadecimal(self, form: str, letter: str) -> int:
        match = re.compile(form).match(self.pattern, self.next)
        if not match or int(match[1], 16) > LAST:
            self.refuse(f"\\{letter} without its digits")
        self.next = match.end()
        return int(match[1], 16)


def single(character: str) -> CharacterSet:
    return _code(ord(character))


def _code(code: int) -> CharacterSet:
    return CharacterSet(((code, code),))
