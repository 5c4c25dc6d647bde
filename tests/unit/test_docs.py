"""What documents name is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
"""Of another document or a file: not of a web page, which has a colon, nor within the page."""
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|json|yaml|png|toml)")
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
"""What the first part of a path must be for it to be one of ours."""


def named(text: str) -> Iterator[str]:
    """The paths in code spans, from the root of the repository, and names of test modules."""
    for span in CODE.findall(text):
        for word in span.split():
            if PATH.fullmatch(word) and ((word.split("/")[0] in FOLDERS and "/" in word) or word.startswith("test_")):
                yield word


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_paths_of_links_exist(document: Path) -> None:
    links = LINK.findall(document.read_text("utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_paths_in_code_exist(document: Path) -> None:
    modules = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    paths = named(document.read_text("utf-8"))
    assert [path for path in paths if not ((ROOT / path).exists() or path in modules)] == []


ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")


def test_architecture_names_every_folder() -> None:
    folders = {file.parent for file in (ROOT / "bento_trtllm").rglob("*.py")}
    assert len(folders) > 10
    assert [str(folder) for folder in folders if f"{folder.name}/" not in ARCHITECTURE] == []


def test_architecture_names_files_where_they_are() -> None:
    """A row of the last table is a folder, or a file, and files of that folder."""
    rows = re.findall(r"^\| `([\w/.]+)`[^|]*\|(.*)\|$", ARCHITECTURE.partition("## Where things are")[2], re.M)
    assert len(rows) > 15
    for place, contents in rows:
        folder = ROOT / place if place.endswith("/") else (ROOT / place).parent
        names = [name for span in CODE.findall(contents) for name in re.findall(r"^\w+\.\w+$", span)]
        assert [name for name in names if not (folder / name).exists()] == [], place
