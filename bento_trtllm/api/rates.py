"""What is left of a key's limits, in the headers that OpenAI's API has for it (docs, "Rate limits in headers")."""

import math
from collections.abc import Sequence

from bento_trtllm.api.asgi import Message, Send
from bento_trtllm.api.errors import APIError
from bento_trtllm.generation.errors import Overloaded
from bento_trtllm.keys.ledger import Account, Allowance

RATE_HEADERS = [
    f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")
]


def headers(allowances: Sequence[Allowance]) -> dict[str, str]:
    """The headers."""
    found = {}
    for each in allowances:
        found[f"x-ratelimit-limit-{each.kind}"] = str(each.limit)
        found[f"x-ratelimit-remaining-{each.kind}"] = str(each.remaining)
        found[f"x-ratelimit-reset-{each.kind}"] = duration(each.reset_s)
    return found


def exceeded(name: str, reached: Allowance, allowances: Sequence[Allowance]) -> APIError:
    """429: the key has used up its limit."""
    wait_s = max(1, math.ceil(reached.wait_s))
    return APIError(
        429,
        Overloaded.kind,
        f"The key {name} has had its {reached.limit} {reached.kind} a minute: try again in {wait_s} s.",
        {"Retry-After": str(wait_s), **headers(allowances)},
    )


def showing(send: Send, account: Account) -> Send:
    """A send that adds them to a response, as they are when it begins."""

    async def show(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name for name, _ in message.get("headers", ())}
            ours = headers(account.allowances()).items()
            raw = [(name.encode(), value.encode()) for name, value in ours if name.encode() not in there]
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await send(message)

    return show


def duration(seconds: float) -> str:
    """As OpenAI writes it: 250ms, 12s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
