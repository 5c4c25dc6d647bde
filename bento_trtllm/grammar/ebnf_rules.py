"""A client's grammar as rules of ours, so that it costs an engine as little, and is never cut.

Repetitions of what may be empty are written as repetitions of what is not: the same texts, and no engine or follower
can go round in them without writing a character.
"""

from bento_trtllm.grammar.automaton import AMBIGUOUS, automaton, unambiguous
from bento_trtllm.grammar.costs import APART, Costs
from bento_trtllm.grammar.ebnf_checks import check, texts_of
from bento_trtllm.grammar.ebnf_reader import Definitions, read
from bento_trtllm.grammar.expressions import (
    EMPTY,
    Characters,
    Choice,
    Concatenation,
    Expression,
    Literal,
    Repeat,
    Rule,
    choice,
    parts,
    rules_in,
    sequence,
)
from bento_trtllm.grammar.grammar import ROOT, GrammarError
from bento_trtllm.grammar.json import Rules
from bento_trtllm.grammar.lengths import can_be_empty
from bento_trtllm.grammar.paths import AutomatonTooLarge
from bento_trtllm.grammar.texts import one_of

# Of characters that an engine has to check many tokens for, 11 ms each (ebnf.py).
MAX_WIDE = 128
# The options of a rule that are repeated as they are.
MAX_PLAIN = 8


def grammar(rules: Rules, text: str, prefix: str = "g") -> Expression:
    """The texts of a grammar in EBNF; `prefix` keeps the rules of several apart. Raises GrammarError."""
    found = read(text)
    try:
        return _Writer(rules, found, check(found), prefix).root()
    except RecursionError as error:
        raise GrammarError("a chain of its rules that may be empty is too long") from error


class _Writer:
    """Writes each rule under a name of ours, for the names of clients are any. What was written once is kept."""

    def __init__(self, rules: Rules, found: Definitions, costs: Costs, prefix: str) -> None:
        self._rules = rules
        self._found = found
        self._costs = costs
        self._is_empty = costs.empty.__contains__
        # The rules that are referred to, and the one that is being written.
        self._wanted = [ROOT]
        self._at = ROOT
        self._prefix = prefix
        self._names = {name: Rule(f"{prefix}{i}") for i, name in enumerate(found.rules)}
        self._own = Rules()
        # By the ids of the grammar's own expressions.
        self._known: dict[int, Expression] = {}
        self._some: dict[int, list[Expression]] = {}
        self._wide: dict[Characters, Rule] = {}

    def root(self) -> Expression:
        self._own.begin_states(self._rules)
        for name in self._wanted:
            if self._names[name].name not in self._own.rules:
                self._at = name
                self._rule(name, self._found.rules[name])
        self._rules.begin_states(self._own)
        # Without those that are written where they were referred to.
        used, todo = set[str](), [self._names[ROOT].name]
        while todo:
            name = todo.pop()
            if name not in used:
                used.add(name)
                todo += rules_in(self._own.rules[name])
                self._rules.rule(name, self._own.rules[name], self._own.places.get(name))
        return self._names[ROOT]

    def _rule(self, name: str, body: Expression) -> None:
        own, place = self._names[name], f"the rule {name[:80].removesuffix(APART)}"
        several = name in self._costs.recursive and self._is_empty(name)
        if name in self._costs.costly and (found := self._automaton(body)):
            self._own.rule(own.name, found, place)
            if several:
                begin = self._own.rules[found.name]
                self._own.rule(_some(own), choice(*(way for way in parts(begin) if way is not EMPTY)))
            return
        self._own.rule(own.name, self._written(body), place)
        if several:
            self._own.rule(_some(own), choice(*self._not_empty(body)))

    def _automaton(self, expression: Expression) -> Rule | None:
        """None for one that is too large."""
        costs, names = self._costs, {}
        for name in costs.recursive:
            own = self._names[name]
            names[name] = Rule(_some(own)) if self._is_empty(name) else own
        try:
            found = automaton(expression, self._found.rules, costs.recursive, costs.empty)
            written = found.write(self._own, bare=True, names=names)
        except (AutomatonTooLarge, RecursionError):
            return None
        self._wanted += found.called
        return written

    def _written(self, expression: Expression) -> Expression:
        if id(expression) not in self._known:
            self._known[id(expression)] = self._write(expression)
        return self._known[id(expression)]

    def _write(self, expression: Expression) -> Expression:
        if isinstance(expression, Rule):
            self._wanted.append(expression.name)
            return self._names[expression.name]
        if isinstance(expression, Choice):
            options = [self._written(option) for option in expression.options if not isinstance(option, Literal)]
            # Texts that begin alike are followed as one.
            return choice(*([one_of(texts)] if (texts := texts_of(expression)) else []), *options)
        if isinstance(expression, Concatenation):
            return sequence(*map(self._written, expression.parts))
        if isinstance(expression, Repeat):
            return self._repeated(expression)
        # As a rule of its own it counts once for an engine, however often it occurs.
        return self._alone(expression) if isinstance(expression, Characters) and expression.wide else expression

    def _alone(self, one: Characters) -> Rule:
        if one not in self._wide:
            if len(self._wide) == MAX_WIDE:
                raise GrammarError(f"it is too large: it has over {MAX_WIDE} classes of many characters")
            self._wide[one] = self._named(one)
        return self._wide[one]

    def _named(self, expression: Expression) -> Rule:
        if isinstance(expression, Rule):
            return expression
        return self._own.rule(f"{self._prefix}_part{len(self._own.rules)}", expression)

    def _repeated(self, repeat: Repeat) -> Expression:
        """Within a repetition that may go on, another one is just what it repeats, as (a? b?)* is (a | b)*."""
        if self._costs.repeats(repeat):
            if found := self._automaton(repeat):
                return found
            if not unambiguous(repeat, self._found.rules, self._costs.recursive, self._costs.empty):
                where = self._found.places[self._at]
                self._found.refuse(where, f"the rule {self._at[:80].removesuffix(APART)} has {AMBIGUOUS}")
        least = 0 if can_be_empty(repeat.item, self._is_empty) else repeat.least
        free = repeat.most is None and least < 2
        options = self._starred(repeat.item) if free else self._not_empty(repeat.item)
        if not options:
            return EMPTY
        if repeat.most == 1:
            return choice(*options) if least else choice("", *options)
        options = [one if isinstance(one, Literal | Characters) else self._named(one) for one in options]
        return Repeat(options[0] if len(options) == 1 else choice(*options), least, repeat.most)

    def _starred(self, expression: Expression) -> list[Expression]:
        """What is repeated where this is, any number of times: the same texts, and none of it may be empty."""
        todo, seen, options = [expression], {id(expression)}, list[Expression]()
        while todo:
            part = todo.pop()
            if isinstance(part, Rule) and (self._is_empty(part.name) or _is_plain(self._found.rules[part.name])):
                inner: tuple[Expression, ...] = (self._found.rules[part.name],)
            elif not isinstance(part, Rule) and self._is_free(part):
                inner = parts(part)
            else:
                one = part if isinstance(part, Characters) else self._written(part)
                options += [] if one in options else [one]
                continue
            todo += [one for one in inner if id(one) not in seen]
            seen.update(map(id, inner))
        for one in options:
            if isinstance(one, Characters) and one.wide:
                self._alone(one)
        texts = [one.text for one in options if isinstance(one, Literal)]
        if len(texts) <= MAX_PLAIN:
            return options
        return [one_of(texts), *(one for one in options if not isinstance(one, Literal))]

    def _is_free(self, expression: Expression) -> bool:
        """Whether any of its parts may stand alone where it is repeated."""
        if isinstance(expression, Choice) or (isinstance(expression, Repeat) and expression.least < 2):
            return True
        return can_be_empty(expression, self._is_empty)

    def _not_empty(self, expression: Expression) -> list[Expression]:
        """All of its texts but the empty one, as options."""
        if id(expression) not in self._some:
            self._some[id(expression)] = self._without_empty(expression)
        return self._some[id(expression)]

    def _without_empty(self, expression: Expression) -> list[Expression]:
        if isinstance(expression, Characters):
            return [expression]
        if not can_be_empty(expression, self._is_empty):
            return [self._written(expression)]
        if isinstance(expression, Rule):
            some = self._not_empty(self._found.rules[expression.name])
            return [self._named(choice(*some))] if some else []
        if isinstance(expression, Repeat):
            some = self._not_empty(expression.item)
            return [Repeat(self._named(choice(*some)), 1, expression.most)] if some else []
        if isinstance(expression, Choice):
            return [some for option in expression.options for some in self._not_empty(option)]
        # Each part may be empty: the first that is not, and what comes after it.
        written = [self._written(part) for part in parts(expression)]
        firsts = [(self._not_empty(part), i) for i, part in enumerate(parts(expression), 1)]
        return [sequence(choice(*some), *written[i:]) for some, i in firsts if some]


def _some(rule: Rule) -> str:
    """The name of the rule of its texts that are not empty."""
    return f"{rule.name}_some"


def _is_plain(expression: Expression) -> bool:
    """Whether a rule is a repetition, or single characters or the like: no more to write than its name."""
    options = expression.options if isinstance(expression, Choice) else (expression,)
    return len(options) <= MAX_PLAIN and not any(isinstance(option, Concatenation) for option in options)
