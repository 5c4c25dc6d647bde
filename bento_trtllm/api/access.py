"""Who may ask, and how much: keys, and what each allows."""

import hmac
from collections.abc import Callable

from bento_trtllm.api import rates
from bento_trtllm.api.addresses import network
from bento_trtllm.api.asgi import Scope
from bento_trtllm.api.errors import APIError, describe
from bento_trtllm.generation.client import Client
from bento_trtllm.generation.errors import QueueFull
from bento_trtllm.keys.key import UNNAMED, Key
from bento_trtllm.keys.keyring import Keyring, now
from bento_trtllm.keys.ledger import Account, Ledger
from bento_trtllm.metrics import routes

# Kubernetes and BentoCloud ask these without a key. The pages have none either: they ask their users for one.
OPEN = ("/livez", "/readyz", "/healthz", "/health", "/ping", "/chat", "/admin")
ADMIN, METRICS = "/admin.json", "/metrics"
KEY = "bento_trtllm.key"
"""Where a request's scope holds the Key that it came with, if that has a name."""


class Access:
    """Tells whose a request is."""

    def __init__(
        self,
        keyring: Keyring,
        ledger: Ledger,
        admin_key: str = "",
        room: Callable[[Client], None] = lambda client: None,
        *,
        open_metrics: bool = False,
    ) -> None:
        """`room` raises QueueFull where there is none for another request of a client."""
        self.keyring = keyring
        self._ledger = ledger
        self._admin_key = admin_key.encode()
        self._room = room
        self._open = (*OPEN, METRICS) if open_metrics else OPEN

    def enter(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[Client, Account | None]:
        """Whose request it is, and which account it counts to. Raises APIError: 401, 403, or 429 for one too many."""
        key = self._key(scope["path"], headers)
        named = key if key and key.name != UNNAMED else None
        # Those who share one key, or none, are told apart by their addresses.
        client = named.client if named else Client(network((scope.get("client") or (None,))[0]) or "")
        account = self._ledger.account(key.name) if key else None
        scope[KEY] = named
        if scope["method"] == "POST" and scope["path"] in routes.ANSWERS:
            try:
                self._room(client)
            except QueueFull as error:
                raise describe(error) from error
            if account and (reached := account.enter()):
                raise rates.exceeded(account.key.name, reached, account.allowances())
        return client, account

    def _key(self, path: str, headers: dict[bytes, bytes]) -> Key | None:
        """The key that a request came with; None where none is wanted. Raises APIError (401, 403)."""
        given = _given(headers)
        admin = bool(self._admin_key) and hmac.compare_digest(given, self._admin_key)
        if path == ADMIN and self._admin_key:
            if not admin:
                raise _unauthorized("This page wants the service's admin_key: send the header")
            return None
        if not self.keyring or path in self._open or (admin and path == METRICS):
            return None
        key = self.keyring.find(given)
        if key is None:
            if given:
                raise _unauthorized("The API key is none of this server's: send another one in the header")
            raise _unauthorized("This server wants an API key: send the header")
        if key.expired(now()):
            raise _unauthorized(f"The key {key.name} has expired: ask for another one, and send it in the header")
        if path == METRICS and key.name != UNNAMED:
            # They tell about other keys.
            raise APIError(403, "forbidden", "The metrics want the service's admin_key, or a key of its api_keys.")
        return key


def _given(headers: dict[bytes, bytes]) -> bytes:
    """The key in a request's headers, empty if there is none."""
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    if b"x-api-key" in headers and not given:  # as Anthropic's clients send it
        return headers[b"x-api-key"].strip()
    return given.strip() if scheme.lower() == b"bearer" else b""


def _unauthorized(words: str) -> APIError:
    return APIError(401, "unauthorized", f"{words} `Authorization: Bearer KEY`.", {"WWW-Authenticate": "Bearer"})
