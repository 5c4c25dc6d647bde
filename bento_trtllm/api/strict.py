"""The bases of all bodies of requests."""

from pydantic import BaseModel, ConfigDict


class StrictBody(BaseModel):
    """No coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class LenientBody(BaseModel):
    """For what clients send back as they got it: fields that this version does not know are left out."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())
