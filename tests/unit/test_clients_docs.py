"""The table of clients in docs/openai.md is of those that scripts/clients.py tries."""

import re

from compatibility.table import BEGIN, CLIENTS, END, FILE


def test_the_table_has_every_client_with_a_version() -> None:
    table = FILE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| ([@/\w-]+) \| (\d[\w.]*) \| (.+) \| (.+) \|$", table, re.M)
    assert [(name, tried) for name, _, tried, _ in rows] == [(client.name, client.does) for client in CLIENTS]


def test_what_is_tried_can_be_read() -> None:
    for client in CLIENTS:
        if not client.node:
            compile(client.code, client.name, "exec")
