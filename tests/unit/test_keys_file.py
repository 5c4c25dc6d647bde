"""keys.yaml: what may stand in it, what is said of the rest, and when it is read again."""

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from bento_trtllm.errors import SettingsError
from bento_trtllm.keys.file import dump, load, read
from bento_trtllm.keys.kept import Kept
from bento_trtllm.keys.key import UNNAMED, digest
from bento_trtllm.keys.keyring import Keyring

SECRET = "sk-0123456789abcdef"
ONE = f"keys: [{{name: one, key: {SECRET}}}]"
ALL = f"""
keys:
- name: team-a
  sha256: {digest(b"sk-another-secret-key").hex()}
  weight: 2.5
  max_running: 4
  requests_per_minute: 60
  tokens_per_minute: 1000
  models: [demo-llama]
  adapters: []
  expires: 2027-01-31
- name: team-b
  key: {SECRET}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def write(path: Path, text: str) -> None:
    """As an editor that takes care: whoever reads finds the old one or the new one."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def test_all_that_a_key_may_have(path: Path) -> None:
    path.write_text(ALL)
    first, second = read(path)
    assert (first.client.weight, first.client.max_running) == (2.5, 4)
    assert (first.requests_per_minute, first.tokens_per_minute) == (60, 1000)
    assert first.permitted.allows("models", "demo-llama", "demo-llama:1")
    assert not first.permitted.allows("models", "other")
    assert not first.permitted.allows("adapters", "any")
    assert [first.expired(datetime(2027, 1, day, 23, tzinfo=timezone.utc)) for day in (30, 31)] == [False, True]
    assert second.digest == digest(SECRET.encode())
    assert second.client.max_running == float("inf")
    assert second.permitted.allows("models", "other")
    assert second.permitted.allows("adapters", "any")
    assert not second.expired(datetime(9999, 1, 1, tzinfo=timezone.utc))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keys: [", "line 1, is not YAML"),
        ("", "it must be a mapping with `keys`, a list"),
        ("keys: []", "keys: it must be a list of at least one key"),
        ("keys: [3]", "key number 1: it must be a mapping with a name and a key"),
        (f"keys: [{{name: one, key: {SECRET}, key2: x}}]", "one: key2: there is no such field: docs/keys.md has all"),
        ("keys: [{name: one}]", "one: give either key or sha256"),
        ("keys: [{name: one, key: short-sk-secret}]", "one: key: it must be text of at least 16 characters"),
        (
            "keys: [{name: one, key: 1234567890123456}]",
            "one: key: it must be text of at least 16 characters, in quotes where all are digits",
        ),
        (f"keys: [{{name: two words, key: {SECRET}}}]", "two words: name: it must be 1 to 64 letters, digits and ._@-"),
        (f"keys: [{{name: {UNNAMED}, key: {SECRET}}}]", "api_keys: name: api_keys is the name of keys without"),
        (
            f"keys: [{{name: one, key: {SECRET}, max_running: 0}}]",
            "one: max_running: it must be a whole number, 1 or more",
        ),
        (f"keys: [{{name: one, key: {SECRET}, weight: .inf}}]", "one: weight: it must be a number from 0.01 to 1000"),
        (
            f"keys: [{{name: one, key: {SECRET}, expires: soon}}]",
            "one: expires: it must be a date or a time, as 2027-06-30",
        ),
        (f"keys: [{{name: one, key: {SECRET}, expires: 2027}}]", "one: expires: it must be a date or a time"),
        ("keys: [{name: one, sha256: ab}]", "one: sha256: it must be 64 hexadecimal digits, as sha256sum prints them"),
        (f"keys: [{{name: one, key: {SECRET}, models: one}}]", "one: models: it must be a list of names"),
        (f"keys: [{{name: one, key: {SECRET}, adapters: [1]}}]", "one: adapters: 0: it must be a list of names"),
        (f"keys: [{{key: {SECRET}}}]", "key number 1: name: it is missing"),
        ("kyes: []", "keys: it is missing"),
        (f"keys: [{{name: one, key: {SECRET}, expires: '2027'}}]", "one: expires: it must be a date or a time"),
        (f"keys: [{{name: one, key: {SECRET}, expires: true}}]", "one: expires: it must be a date or a time"),
        (f"keys: [{{name: one, key: {SECRET}, 3: x}}]", "one: 3: there is no such field: docs/keys.md has all"),
        (f"{{3: x, keys: [{{name: one, key: {SECRET}}}]}}", "3: there is no such field: docs/keys.md has all"),
        (f"keys: [{{name: one, key: {SECRET}, expires: 2027-02-30}}]", "has a date that does not exist"),
        (f"keys: [{{name: one, key: !!float {SECRET}}}]", "has a date that does not exist, or a broken tag"),
        ("[" * 1000, "is not YAML"),
        (f"keys: [{{name: a, key: {SECRET}}}, {{name: b, key: {SECRET}}}]", "a and b have the same key"),
        (f"keys: [{{name: a, key: {SECRET}}}, {{name: a, key: {SECRET}2}}]", "a and a have the same name"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_without_the_key(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"keys\.yaml") as error:
        read(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "sk-" not in str(error.value)
    assert "123456" not in str(error.value)


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        Keyring([], path)


async def test_a_changed_file_is_read_again_once_it_is_still(path: Path) -> None:
    path.write_text(ONE)
    keyring = Keyring(["old"], path)
    changes: list[int] = []
    keyring.changed = lambda: changes.append(len(keyring.named))
    await keyring.look()
    assert changes == []
    write(path, ALL)
    await keyring.look()  # it may be half written
    assert changes == []
    await keyring.look()
    assert changes == [2]
    names = [key.name if key else None for key in map(keyring.find, (SECRET.encode(), b"old", b"unknown"))]
    assert names == ["team-b", UNNAMED, None]


async def test_a_wrong_file_leaves_the_keys_as_they_were(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(ONE)
    keyring = Keyring([], path)
    for spoiled in ("keys: {", None):
        if spoiled:
            write(path, spoiled)
        else:
            path.unlink()
        for _ in range(5):
            await keyring.look()
        assert keyring.find(SECRET.encode())
        assert "keys.yaml" in keyring.fault
    assert [record.message.endswith("the keys stay as they were") for record in caplog.records] == [True, True]
    write(path, ONE)
    for _ in range(2):
        await keyring.look()
    assert keyring.fault == ""


def test_what_is_kept_of_keys_is_all_but_the_keys(path: Path) -> None:
    path.write_text(ALL)
    keys = read(path)
    kept = dump(keys)
    assert load(kept) == keys
    assert b"sk-" not in kept


@pytest.mark.parametrize("spoiled", ["keys: {", "", None])
async def test_a_worker_that_comes_later_begins_with_the_keys_of_the_others(path: Path, spoiled: str | None) -> None:
    kept = Kept.make()
    path.write_text(ONE)
    first = Keyring([], path, kept)
    write(path, ALL)
    for _ in range(2):
        await first.look()
    if spoiled is None:
        path.unlink()
    else:
        write(path, spoiled)
    later = Keyring([], path, kept)
    assert later.named == first.named and len(later.named) == 2
    for keyring in (first, later):
        for _ in range(2):
            await keyring.look()
        assert "keys.yaml" in keyring.fault and len(keyring.named) == 2
    write(path, ONE)
    for _ in range(2):
        await later.look()
    assert (later.fault, len(later.named)) == ("", 1)
    assert len(Keyring([], path, kept).named) == 1


async def test_a_worker_that_comes_later_waits_for_a_file_that_is_half_written(path: Path) -> None:
    """It may be right in form, and lack keys."""
    kept = Kept.make()
    path.write_text(ALL)
    Keyring([], path, kept)
    path.write_text(ALL.partition("- name: team-b")[0])
    later = Keyring([], path, kept)
    assert len(later.named) == 2
    path.write_text(ALL)
    for _ in range(2):
        await later.look()
        assert len(later.named) == 2


async def test_a_file_that_has_not_changed_is_not_read_by_those_who_come_later(path: Path) -> None:
    kept = Kept.make()
    path.write_text(ONE)
    Keyring([], path, kept)
    later = Keyring([], path, kept)
    for _ in range(3):
        await later.look()
    assert (len(later.named), later.reloads, later.fault) == (1, 0, "")


@pytest.mark.parametrize("text", ["keys: {", None])
def test_the_first_to_come_wants_a_file_that_is_right(path: Path, text: str | None) -> None:
    if text:
        path.write_text(text)
    with pytest.raises(SettingsError, match=r"keys\.yaml"):
        Keyring([], path, Kept.make())


def test_keys_that_cannot_be_kept_are_valid_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(ONE)
    monkeypatch.setattr(Kept, "write", lambda kept, content: os.pwrite(-1, content, 0))
    assert Keyring([], path, Kept.make()).find(SECRET.encode())
    assert "keys.yaml is not kept for workers that replace others: Bad file descriptor" in caplog.text


async def test_a_file_that_becomes_readable_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(ONE)
    keyring = Keyring([], path)
    with monkeypatch.context() as root_may_read_all:
        root_may_read_all.setattr(Path, "read_bytes", lambda path: os.close(-1))
        path.chmod(0o000)
        for _ in range(2):
            await keyring.look()
        assert "cannot be read" in keyring.fault
    path.chmod(0o600)
    for _ in range(2):
        await keyring.look()
    assert keyring.fault == ""


async def test_a_mounted_secret_changes_by_its_link(tmp_path: Path) -> None:
    for name, text in (("..1", ONE), ("..2", ALL)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.yaml").write_text(text)
        os.utime(tmp_path / name / "keys.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "keys.yaml").symlink_to("..data/keys.yaml")
    keyring = Keyring([], tmp_path / "keys.yaml")
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    for _ in range(2):
        await keyring.look()
    assert len(keyring.named) == 2


def test_without_keys_none_is_wanted() -> None:
    assert not Keyring([])
    assert Keyring(["one"])
    assert Keyring(["one"]).accountable() == []
