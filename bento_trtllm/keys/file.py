"""keys.yaml: the named keys, as an operator writes them (docs/keys.md)."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from bento_trtllm.errors import SettingsError
from bento_trtllm.keys.key import UNNAMED, Key, Permitted, digest

LEAST_KEY = 16
"""Characters. What is shorter could be guessed from its SHA-256."""
NUMBER = re.compile(r"[-+]?[0-9.]+")
Count = Annotated[int, Field(ge=1, strict=True)]
A_LIST, A_COUNT = "it must be a list of names, as [demo-llama]", "it must be a whole number, 1 or more"
MEANT = {
    "keys": "it must be a list of at least one key",
    "name": "it must be 1 to 64 letters, digits and ._@-, the first a letter or a digit",
    "key": f"it must be text of at least {LEAST_KEY} characters, in quotes where all are digits",
    "sha256": "it must be 64 hexadecimal digits, as sha256sum prints them",
    "weight": "it must be a number from 0.01 to 1000",
    "max_running": A_COUNT,
    "requests_per_minute": A_COUNT,
    "tokens_per_minute": A_COUNT,
    **dict.fromkeys(Permitted.model_fields, A_LIST),
    "expires": "it must be a date or a time, as 2027-06-30 or 2027-06-30T18:00:00Z",
}
"""What a value must be, where pydantic's words are about types."""
TERMS = ("name", "weight", "max_running", "requests_per_minute", "tokens_per_minute", "expires")
"""Fields that an entry and its key have alike."""


class Entry(Permitted):
    """One key."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")
    key: SecretStr | None = Field(None, min_length=LEAST_KEY)
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$")
    weight: float = Field(1.0, ge=0.01, le=1000, allow_inf_nan=False)
    max_running: Count | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    expires: datetime | None = None

    @classmethod
    def of(cls, key: Key) -> "Entry":
        """What describes a key, by its digest."""
        terms = {name: getattr(key, name) for name in TERMS}
        return cls(sha256=key.digest.hex(), **terms, **key.permitted.model_dump())

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == UNNAMED:
            raise ValueError(f"{UNNAMED} is the name of keys without a name")
        return name

    @field_validator("key")
    @classmethod
    def _can_be_sent(cls, key: SecretStr | None) -> SecretStr | None:
        if key and (not key.get_secret_value().isascii() or key.get_secret_value() != key.get_secret_value().strip()):
            raise ValueError("it must be ASCII, without spaces at its ends")
        return key

    @field_validator("expires", mode="before")
    @classmethod
    def _is_no_number(cls, expires: object) -> object:
        # pydantic would take a year for seconds since 1970, in quotes as well.
        if isinstance(expires, int | float) or (isinstance(expires, str) and NUMBER.fullmatch(expires.strip())):
            raise ValueError(MEANT["expires"])
        return expires

    @model_validator(mode="after")
    def _has_one_key(self) -> "Entry":
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("give either key or sha256")
        return self

    def made(self) -> Key:
        """The key that it describes."""
        expires = self.expires
        if expires and expires.tzinfo is None:
            expires = expires.replace(tzinfo=timezone.utc)
        return Key(
            self.name,
            digest(self.key.get_secret_value().encode()) if self.key else bytes.fromhex(self.sha256 or ""),
            self.weight,
            self.max_running,
            self.requests_per_minute,
            self.tokens_per_minute,
            Permitted(**self.model_dump(include=set(Permitted.model_fields))),
            expires,
        )


class File(BaseModel):
    """All of it."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: list[Entry] = Field(min_length=1)


def read(path: Path) -> list[Key]:
    """The keys of a file. Raises SettingsError, which names the file and what is wrong, and never a key."""
    try:
        content: Any = yaml.safe_load(path.read_bytes())
        keys = [entry.made() for entry in File.model_validate(content).keys]
    except OSError as error:
        raise SettingsError(f"the file of named keys, {path}, cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SettingsError(f"the file of named keys, {path}: {_sentence(error, content)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"the file of named keys, {path}{where}, is not YAML") from None
    except ValueError:  # PyYAML's own, whose words may have a key in them
        raise SettingsError(
            f"the file of named keys, {path}, has a date that does not exist, or a broken tag"
        ) from None
    for what, values in (("name", [key.name for key in keys]), ("key", [key.digest for key in keys])):
        twice = [key.name for key, value in zip(keys, values, strict=True) if Counter(values)[value] > 1]
        if twice:
            raise SettingsError(f"the file of named keys, {path}: {' and '.join(twice)} have the same {what}")
    return keys


def dump(keys: Sequence[Key]) -> bytes:
    """Keys that were read, as a file of digests: none of them can be told from it."""
    return File(keys=[Entry.of(key) for key in keys]).model_dump_json(exclude_none=True).encode()


def load(content: bytes) -> list[Key]:
    """The keys of such a file."""
    return [entry.made() for entry in File.model_validate_json(content).keys]


def _sentence(error: ValidationError, content: Any) -> str:
    first = error.errors(include_input=False)[0]
    fields = [part for part in first["loc"] if part in MEANT]
    match first["type"]:
        case "extra_forbidden" | "invalid_key":
            what = "there is no such field: docs/keys.md has all"
        case "missing":
            what = "it is missing"
        case "value_error":
            what = first["msg"].removeprefix("Value error, ")
        case "model_type":
            what = "it must be a mapping with a name and a key"
        case _:
            what = MEANT[str(fields[-1])]
    match first["loc"]:
        case ("keys", int() as index, *rest):
            entry = content["keys"][index]
            name = entry.get("name") if isinstance(entry, dict) else None
            who = name if isinstance(name, str) else f"key number {index + 1}"
            return ": ".join((who, *(str(part) for part in rest), what))
        case ():
            return "it must be a mapping with `keys`, a list"
        case parts:
            return ": ".join((*(str(part) for part in parts), what))
