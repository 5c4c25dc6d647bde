"""A key that clients send, and what it allows."""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256

from pydantic import BaseModel, ConfigDict, field_validator

from bento_trtllm.generation.client import Client

UNNAMED = "api_keys"
"""The name of all keys that have none, after the setting that they come from."""


def digest(key: bytes) -> bytes:
    """What is kept of a key, and looked up: how long that takes tells nothing of the keys themselves."""
    return sha256(key).digest()


class Permitted(BaseModel):
    """Names and tags of what a key may use, by kind; None is all."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    models: list[str] | None = None
    adapters: list[str] | None = None

    @field_validator("models", "adapters")
    @classmethod
    def _in_order(cls, names: list[str] | None) -> list[str] | None:
        return None if names is None else sorted(set(names))

    def allows(self, kind: str, *names: str) -> bool:
        """Whether it may use one of a kind that has these names."""
        listed: list[str] | None = getattr(self, kind)
        return listed is None or not set(names).isdisjoint(listed)


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
    permitted: Permitted = field(default_factory=Permitted)
    expires: datetime | None = None

    @property
    def client(self) -> Client:
        """Those who send it, for the line."""
        return Client(self.name, self.weight, float("inf") if self.max_running is None else self.max_running)

    def expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires
