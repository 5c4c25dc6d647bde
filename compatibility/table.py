"""The table of clients in docs/openai.md."""

from pathlib import Path

from compatibility.agents import AGENTS
from compatibility.libraries import LIBRARIES
from compatibility.measures import MEASURES

CLIENTS = (*LIBRARIES, *MEASURES, *AGENTS)
FILE = Path(__file__).parents[1] / "docs" / "openai.md"
HEAD = "| client | version | tried | result |\n|---|---|---|---|\n"
BEGIN, END = "<!-- By scripts/clients.py --docs: -->\n", "<!-- Here the clients end. -->\n"


def write(rows: dict[str, str]) -> None:
    """Put these rows of clients into the table in the document; those of others stay."""
    text = FILE.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines(keepends=True)[2:]} | rows
    body = "".join(rows[client.name] for client in CLIENTS if client.name in rows)
    FILE.write_text(f"{before}{begin}{HEAD}{body}{end}{after}", "utf-8")
