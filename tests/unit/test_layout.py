"""How the tests lie: by what they need, and with all that they share in tests/support."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADAPTERS = re.compile(r"(?<!Type)adapter|lora", re.IGNORECASE)
THEIRS = {
    *("checkpoint/adapter.py", "checkpoint/merge.py", "engines/pytorch/adapters.py", "generation/adapted.py"),
    *("metrics/adapters.py", "triton_models/pytorch/lora.py", "triton_models/shared/adapters.py"),
}
"""Files of the package that are LoRA's own."""
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
    modules = f"({'|'.join(LEVELS)}|conftest)\\b"
    of_tests, worth_reading = re.compile(rf"tests\.{modules}"), re.compile(rf"tests\.{modules}|from tests import")
    some = [file for file in files if worth_reading.search(file.read_text("utf-8"))]
    assert [(str(file), name) for file in some for name in imported(file) if of_tests.match(name)] == []


def test_every_test_is_in_a_level_and_support_has_none() -> None:
    tests = list((ROOT / "tests").rglob("test_*.py"))
    assert {file.relative_to(ROOT / "tests").parts[0] for file in tests} == LEVELS


def test_few_files_know_of_adapters() -> None:
    """Those that CONTRIBUTING.md names: a feature from pack to answer, as LoRA is, goes through eight."""
    package = ROOT / "bento_trtllm"
    files = [*package.rglob("*.py"), *package.rglob("*.html"), ROOT / "service.py", ROOT / "pack_model.py"]
    knowing = {str(file.relative_to(ROOT)) for file in files if ADAPTERS.search(file.read_text("utf-8"))}
    assert {f"bento_trtllm/{name}" for name in THEIRS} <= knowing
    others = knowing - {f"bento_trtllm/{name}" for name in THEIRS}
    named = ROOT.joinpath("CONTRIBUTING.md").read_text("utf-8").partition("## Add a feature")[2].partition("\n## ")[0]
    assert others == set(re.findall(r"\]\((bento_trtllm/[^)]+)\)", named)) and len(others) <= 8
