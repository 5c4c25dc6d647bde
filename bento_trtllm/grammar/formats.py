"""String formats of JSON Schema: only texts that every validator accepts, and all that people write."""

from collections.abc import Callable

from bento_trtllm.grammar import addresses, dates
from bento_trtllm.grammar.expressions import Expression, sequence
from bento_trtllm.grammar.json import HEX, Rules


def _uuid(version: str = "") -> Callable[[Rules], Expression]:
    """Of any version, or of one."""

    def uuid(rules: Rules) -> Expression:
        four = rules.rule("hex4", sequence(HEX, HEX, HEX, HEX))
        third = sequence(version, HEX, HEX, HEX) if version else four
        return rules.rule(
            f"uuid{version}", sequence(four, four, "-", four, "-", third, "-", four, "-", four, four, four)
        )

    return uuid


FORMATS: dict[str, Callable[[Rules], Expression]] = {
    "date": dates.date,
    "time": dates.time,
    "date-time": dates.date_time,
    "duration": dates.duration,
    "uuid": _uuid(),
    **{f"uuid{version}": _uuid(version) for version in "1345678"},  # pydantic's
    "ipv4": addresses.ipv4,
    "ipv6": addresses.ipv6,
    "hostname": addresses.hostname,
    "email": addresses.email,
    "uri": addresses.uri,
}
# They say how a string is used, and nothing about its content (OpenAPI's, pydantic's).
SAY_NOTHING = {"password", "binary", "path", "file-path", "directory-path"}
