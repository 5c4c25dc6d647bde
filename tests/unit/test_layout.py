"""How the tests lie: by what they need, and with all that they share in tests/support."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"unit", "triton", "service", "browser", "contract", "deploy"}


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports, and all that it imports from them, dotted."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nothing_imports_from_a_test_module() -> None:
    """What two of them need is in tests/support; soak and benchmark stand on that too."""
    files = [file for folder in ("tests", "soak", "benchmark") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    of_tests = re.compile(rf"tests\.({'|'.join(LEVELS)}|conftest)\b")
    assert [(str(file), name) for file in files for name in imported(file) if of_tests.match(name)] == []


def test_every_test_is_in_a_level_and_support_has_none() -> None:
    tests = list((ROOT / "tests").rglob("test_*.py"))
    assert {file.relative_to(ROOT / "tests").parts[0] for file in tests} == LEVELS
