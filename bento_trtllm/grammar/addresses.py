"""Internet names and addresses, as texts that every validator accepts.

What is never used in practice is left out where it would make the grammar many times larger: a label of a host name has
no two hyphens in a row, the first label has at most 63 characters and the others 30, and there are at most 7 labels, in
an email 5. So no host name has over 253 characters, and no email over 254.
"""

from bento_trtllm.grammar.expressions import EMPTY, Expression, Repeat, Rule, characters, choice, sequence
from bento_trtllm.grammar.json import DIGIT, HEX, Rules

LETTERS = ("az", "AZ")
ALPHANUMERIC = characters(*LETTERS, "09")
OCTET = choice(
    sequence("25", characters("05")),
    sequence("2", characters("04"), DIGIT),
    sequence("1", DIGIT, DIGIT),
    sequence(characters("19"), DIGIT),
    DIGIT,
)
# RFC 5322's dot-atom; RFC 5321 gives it 64 characters before the @.
LOCAL, LOCAL_LENGTH = (*LETTERS, "09", *"!#$%&'*+/=?^_`{|}~-"), 64
# RFC 3986.
UNRESERVED, DELIMITERS = (*LETTERS, "09", *"-._~"), tuple("!$&'()*+,;=")
FIRST_LABEL, LABEL, LABELS, EMAIL_LABELS = 63, 30, 7, 5
GROUPS = 8


def ipv4(rules: Rules) -> Expression:
    """127.0.0.1."""
    octet = rules.rule("octet", OCTET)
    return rules.rule("ipv4", sequence(octet, ".", octet, ".", octet, ".", octet))


def ipv6(rules: Rules) -> Expression:
    """2001:db8::1, all of RFC 4291: including `::` for omitted groups, and an IPv4 address at the end."""
    group = rules.rule("group", sequence(HEX, Repeat(HEX, 0, 3)))
    last = ipv4(rules)
    # `tail` is at most this many groups, after `::`; `some` is at least one of them.
    tail: Expression = EMPTY
    tails = [tail]
    some: Expression = EMPTY
    for left in range(1, GROUPS):
        one = group if left == 1 else sequence(group, choice("", sequence(":", some)))
        some = rules.rule(f"groups{left}", choice(one, last) if left > 1 else one)
        tails.append(choice("", some))
    # `head` is what comes after this many groups and a colon.
    head: Expression = group
    for before in reversed(range(GROUPS - 1)):
        short = sequence("::", tails[GROUPS - 2 - before])
        head = sequence(group, choice(sequence(":", head), short))
        head = rules.rule(f"address{before}", choice(head, last) if before == GROUPS - 2 else head)
    return rules.rule("ipv6", choice(head, sequence("::", tails[GROUPS - 1])))


def hostname(rules: Rules) -> Expression:
    """www.example.com, or a single label."""
    label = _label(rules, LABEL)
    return rules.rule(
        "hostname",
        sequence(_label(rules, FIRST_LABEL), Repeat(sequence(".", label), 0, LABELS - 1)),
    )


def email(rules: Rules) -> Expression:
    """john.doe@example.com: without quotes and comments, at a host whose last label consists of letters."""
    character = rules.rule("atom", characters(*LOCAL))
    local = _dotted(rules, "local", character, ".", LOCAL_LENGTH)
    label = _label(rules, LABEL)
    domain = sequence(Repeat(sequence(label, "."), 1, EMAIL_LABELS - 1), Repeat(characters(*LETTERS), 2, 24))
    return rules.rule("email", sequence(local, "@", domain))


def uri(rules: Rules) -> Expression:
    """https://user@example.com:80/path?query#fragment, mailto:a@example.com, urn:isbn:0: RFC 3986 except IPvFuture."""
    encoded = rules.rule("encoded", sequence("%", HEX, HEX))
    scheme = sequence(characters(*LETTERS), Repeat(characters(*LETTERS, "09", *"+-."), 0, 31))

    def run(name: str, *further: str) -> Rule:
        allowed = rules.rule(f"{name}_character", choice(characters(*UNRESERVED, *DELIMITERS, *further), encoded))
        return rules.rule(name, Repeat(allowed, 0, None))

    path, rest = run("path", *":@/"), run("query", *":@/?")
    name = run("registered")
    host = choice(name, sequence("[", ipv6(rules), "]"))
    authority = rules.rule(
        "authority",
        sequence(choice("", sequence(run("user", ":"), "@")), host, choice("", sequence(":", Repeat(DIGIT, 0, 5)))),
    )
    # After a scheme without an authority a path does not begin with two slashes.
    rootless = sequence(choice(characters(*UNRESERVED, *DELIMITERS, *":@"), encoded), path)
    absolute = sequence("/", choice("", rootless))
    whole = choice(sequence("//", authority, choice("", sequence("/", path))), absolute, rootless, "")
    return rules.rule(
        "uri",
        sequence(scheme, ":", whole, choice("", sequence("?", rest)), choice("", sequence("#", rest))),
    )


def _label(rules: Rules, most: int) -> Expression:
    """Letters and digits, with single hyphens between them."""
    return _dotted(rules, "label", rules.rule("alphanumeric", ALPHANUMERIC), "-", most)


def _dotted(rules: Rules, name: str, character: Rule, between: str, most: int) -> Expression:
    """Up to this many characters, with single signs between some; a rule per number of characters still to come."""
    after: list[Expression] = [EMPTY]
    for left in range(1, most):
        options: list[Expression | str] = ["", sequence(character, after[left - 1])]
        if left > 1:
            options.append(sequence(between, character, after[left - 2]))
        after.append(rules.rule(f"{name}_{left}", choice(*options)))
    return sequence(character, after[-1])
