"""The table of clients in docs/openai.md is of those that scripts/clients.py tries."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clients_script", ROOT / "scripts" / "clients.py")
    assert spec and spec.loader
    module = sys.modules["clients_script"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_every_client_with_a_version(script: ModuleType) -> None:
    text = (ROOT / "docs/openai.md").read_text("utf-8")
    table = text.partition(script.BEGIN)[2].partition(script.END)[0]
    rows = re.findall(r"^\| ([@/\w-]+) \| (\d[\w.]*) \| (.+) \| (.+) \|$", table, re.M)
    assert [(name, tried) for name, _, tried, _ in rows] == [(client.name, client.does) for client in script.CLIENTS]


def test_what_is_tried_can_be_read(script: ModuleType) -> None:
    for client in script.CLIENTS:
        if not client.node:
            compile(client.code, client.name, "exec")
