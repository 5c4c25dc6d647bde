"""Renews the Markdown library of the chat page from npm.

Usage: scripts/update_markdown_it.py [VERSION]. It writes markdown-it.js and markdown-it.licenses.txt beside chat.html:
the library's own bundle for browsers, and the licences of all that is in it. npm checks the package's integrity.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

STATIC = Path(__file__).parents[1] / "bento_trtllm" / "api" / "static"
BUNDLE = "dist/browser/markdown-it.umd.min.js"
REGISTRY = "https://registry.npmjs.org/markdown-it/-"
# Its command line alone uses this one.
NOT_IN_BUNDLE = ("argparse",)


def bundle(package: Path, lock: dict[str, dict[str, str]]) -> str:
    """The library, with where it comes from in its first line."""
    code = (package / BUNDLE).read_text("utf-8").partition("//# sourceMappingURL=")[0].strip() + "\n"
    # It is written into a page: these would end its script, or hide the end.
    if "</script" in code.lower() or "<script" in code.lower():
        sys.exit(f"{BUNDLE} cannot be part of a page")
    entry = lock["node_modules/markdown-it"]
    origin = f"{BUNDLE} of {REGISTRY}/markdown-it-{entry['version']}.tgz ({entry['integrity']})"
    checksum = hashlib.sha256(code.encode()).hexdigest()
    return f"/*! {origin}; MIT, see markdown-it.licenses.txt; sha256 of what follows: {checksum} */\n{code}"


def licences(modules: Path, lock: dict[str, dict[str, str]]) -> str:
    """Those of the library and of what is bundled with it."""
    texts = []
    for place, entry in sorted(lock.items()):
        name = place.removeprefix("node_modules/")
        if name and name not in NOT_IN_BUNDLE:
            (file,) = (modules / name).glob("[Ll][Ii][Cc][Ee][Nn][SsCc][Ee]*")
            texts.append(f"{name} {entry['version']}\n\n{file.read_text('utf-8').strip()}\n")
    return f"\n{'-' * 72}\n\n".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?", default="latest")
    version = parser.parse_args().version
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"markdown-it@{version}"]
        subprocess.run(command, cwd=folder, check=True)
        lock = json.loads(Path(folder, "package-lock.json").read_text("utf-8"))["packages"]
        modules = Path(folder, "node_modules")
        (STATIC / "markdown-it.js").write_text(bundle(modules / "markdown-it", lock), "utf-8")
        (STATIC / "markdown-it.licenses.txt").write_text(licences(modules, lock), "utf-8")


if __name__ == "__main__":
    main()
