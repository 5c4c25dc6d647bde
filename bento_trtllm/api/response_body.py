"""The base of all bodies of responses, and the ids that they have."""

import secrets

from pydantic import BaseModel, ConfigDict


class ResponseBody(BaseModel):
    """Fields that were not set are left out; null is written on purpose."""

    model_config = ConfigDict(protected_namespaces=())

    def dump(self) -> str:
        """As JSON on one line."""
        return self.model_dump_json(exclude_unset=True)


def new_id(prefix: str) -> str:
    """An id for a response, or for a part of one."""
    return f"{prefix}{secrets.token_hex(12)}"
