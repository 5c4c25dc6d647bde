"""A key that clients send, and what it allows."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from bento_trtllm.generation.client import Client

UNNAMED = "api_keys"
"""The name of all keys that have none, after the setting that they come from."""


def digest(key: bytes) -> bytes:
    """What is kept of a key, and looked up: how long that takes tells nothing of the keys themselves."""
    return sha256(key).digest()


@dataclass(frozen=True)
class Key:
    """One of the keys. What is None is not limited."""

    name: str
    digest: bytes
    """Its SHA-256."""
    weight: float = 1.0
    max_running: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    models: frozenset[str] | None = None
    adapters: frozenset[str] | None = None
    expires: datetime | None = None

    @property
    def client(self) -> Client:
        """Those who send it, for the line."""
        return Client(self.name, self.weight, float("inf") if self.max_running is None else self.max_running)

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires

    def allows_model(self, *names: str) -> bool:
        """Whether it may use a model that has these names."""
        return self.models is None or not self.models.isdisjoint(names)

    def allows_adapter(self, name: str) -> bool:
        """Whether it may use an adapter."""
        return self.adapters is None or name in self.adapters
