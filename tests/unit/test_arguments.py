"""A setting that is wrong, in one sentence; an empty variable is none."""

from pathlib import Path

import pytest

from bento_trtllm.arguments import read_keys, read_settings
from bento_trtllm.config import Settings
from bento_trtllm.errors import SettingsError


def refused(**arguments: object) -> str:
    with pytest.raises(SettingsError) as error:
        read_settings(arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["workers", "threads", "api_keys", "api_keys_file", "model", "inference_precision"])
def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"TRTLLM_{name.upper()}", "")
    assert getattr(read_settings({}), name) == getattr(Settings(), name)
    monkeypatch.delenv(f"TRTLLM_{name.upper()}")
    assert getattr(read_settings({}), name) == getattr(Settings(), name)


def test_a_wrong_value_is_named_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(workers="x").startswith("--arg workers=x cannot be used: input should be a valid integer")
    assert refused(workers="").startswith("--arg workers= cannot be used: ")
    monkeypatch.setenv("TRTLLM_THREADS", "-1")
    assert refused() == "TRTLLM_THREADS=-1 cannot be used: input should be greater than or equal to 0"
    assert read_settings({"threads": "2"}).threads == 2


def test_a_setting_that_there_is_not() -> None:
    assert refused(worker="1").startswith("there is no setting worker (did you mean workers?): ")
    assert refused(nonsense="1").startswith("there is no setting nonsense: ")


def test_a_variable_that_is_nearly_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRTLLM_API_KEY=… would leave the service without a key."""
    monkeypatch.setenv("TRTLLM_ENABLE_PDL", "1")  # TensorRT-LLM's own
    monkeypatch.setenv("TRTLLM_SERVICE_PORT", "tcp://10.0.0.1:3000")  # Kubernetes', for a service named trtllm
    monkeypatch.setenv("trtllm_workers", "3")
    assert read_settings({}).workers == 3
    monkeypatch.setenv("TRTLLM_API_KEY", "")
    read_settings({})
    monkeypatch.setenv("TRTLLM_API_KEY", "secret")
    assert refused() == "there is no setting TRTLLM_API_KEY: did you mean TRTLLM_API_KEYS?"


def test_settings_that_do_not_go_together() -> None:
    assert refused(kv_cache_precision="bf16", inference_precision="f32").startswith(
        "kv_cache_precision=bf16 does not go with "
    )


def test_keys_are_not_shown() -> None:
    # As --arg-file may have them.
    assert refused(api_keys=[{"secret": 1}]).startswith("--arg api_keys=… cannot be used: ")


def test_a_file_of_keys_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere, cannot be read: No such file"):
        read_keys(read_settings({"api_keys_file": str(tmp_path / "nowhere")}))
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it is not text in UTF-8"):
        read_keys(read_settings({"api_keys_file": str(tmp_path / "keys")}))
    (tmp_path / "keys").write_text("one\n\n two \n")
    assert read_keys(read_settings({"api_keys_file": str(tmp_path / "keys"), "api_keys": "three"})) == [
        "three",
        "one",
        "two",
    ]
