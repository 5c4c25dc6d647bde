"""Reads settings, `--arg name=value` or TRTLLM_NAME=value; one sentence says what is wrong with the first bad one."""

import difflib
import os
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_core import ErrorDetails

from bento_trtllm.config import Settings
from bento_trtllm.errors import SettingsError

PREFIX = "TRTLLM_"
NEAR = 0.8
"""From this likeness on a variable that is no setting is a slip; TensorRT-LLM has variables with that prefix, too."""


def read_settings(arguments: Mapping[str, Any]) -> Settings:
    """All settings; `arguments` win over the environment. Raises SettingsError."""
    _check_names(os.environ)
    try:
        return Settings(**arguments)
    except ValidationError as error:
        raise SettingsError(_sentence(error.errors()[0], arguments)) from error


def read_keys(settings: Settings) -> list[str]:
    """The API keys. Raises SettingsError for a file that cannot be read."""
    try:
        return settings.keys()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise SettingsError(f"the file of API keys, {settings.api_keys_file}, cannot be read: {why}") from error


def _check_names(environment: Mapping[str, str]) -> None:
    for variable, value in environment.items():
        name = variable.lower().removeprefix(PREFIX.lower())
        if not value or name == variable.lower() or name in Settings.model_fields:
            continue
        if near := difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=NEAR):
            raise SettingsError(f"there is no setting {variable}: did you mean {PREFIX}{near[0].upper()}?")


def _sentence(error: ErrorDetails, arguments: Mapping[str, Any]) -> str:
    what = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # about settings that conflict; the message names them
        return what
    # An error about a value from the environment may name the variable instead of the setting.
    name = str(error["loc"][0]).lower().removeprefix(PREFIX.lower())
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        return f"there is no setting {name}{meant}: bento_trtllm/config.py lists them all"
    given = f"--arg {name}=" if name in arguments else f"{PREFIX}{name.upper()}="
    secret = Settings.model_fields[name].annotation is SecretStr
    value = "…" if secret else str(error["input"])
    return f"{given}{value} cannot be used: {what[:1].lower()}{what[1:]}"
