"""What scripts/test does, in .venv and the checkout: style, types, and then tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bento_trtllm.checkout.environment import ROOT, compile_all, enter

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
STANDIN = Path("tests/support/standin/backend")
LLMAPI = Path("tests/support/llmapi/module")
OPENVINO = Path("bento_trtllm/triton_models/openvino")
SHARED = (Path("bento_trtllm/text"), Path("bento_trtllm/triton_models/shared"))
"""What is put beside each model."""
Checked = subprocess.CompletedProcess[str]


def main(arguments: Sequence[str]) -> int:
    """Run it all, unless the style is wrong, and return the exit code of what fails."""
    enter(Path(sys.prefix), os.environ)
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    compile_all()
    runs = pytest_runs(arguments)
    if "--fast" not in arguments[:1] and not any(shutil.which(name) for name in CHROMIUM):
        install_chromium()
    if code := style():
        return code
    together, *alone = runs
    if not alone:
        if code := _told(types()):
            return code
        os.execvp("pytest", ["pytest", *together])
    # Types beside the tests, which wait for much of their time; nothing is to run beside those that measure.
    with ThreadPoolExecutor(1) as beside:
        checked = beside.submit(types)
        code = max(_code("pytest", *together), _told(checked.result()))
    return max(code, *[_code("pytest", *run) for run in alone])


def pytest_runs(arguments: Sequence[str]) -> list[list[str]]:
    """The options of pytest, of one run after another."""
    if arguments[:1] == ["--fast"]:
        shared = ["--numprocesses", "2", "--dist", "loadfile"]
        return [["tests/unit", "tests/contract", "-m", "not slow", *shared, *arguments[1:]]]
    if arguments:
        return [[*arguments]]
    # Six processes share the tests out, file by file, or by engine (shares.py), since each waits for more than half of
    # its time: first what takes long (conftest.py), and last the unit tests, so that all end together. Those that
    # measure come after them, alone on the machine.
    shared = ["--numprocesses", "6", "--dist", "loadgroup", "--no-loadscope-reorder"]
    return [["-m", "not measured", *shared, "--durations", "20"], ["-m", "measured", "--durations", "20"]]


def install_chromium() -> None:
    """Where this runs as root on Debian or Ubuntu; without it the tests of the chat page are skipped."""
    skipped = "the tests of the chat page are skipped"
    if os.getuid() or not shutil.which("apt-get"):
        _say(f"Chromium is missing, and only root can install it: {skipped}")
        return
    _say("Installing Chromium ...")
    needed = ("install", "-y", "--no-install-recommends", "chromium", "fonts-noto-color-emoji")
    if any(
        subprocess.run(["apt-get", "-qq", *options], check=False, capture_output=True).returncode
        for options in (["update"], needed)
    ):
        _say(f"Chromium could not be installed: {skipped}")


def style() -> int:
    """The exit code of what finds something, or 0."""
    for command in (["ruff", "format", "--check", "."], ["ruff", "check", "."]):
        if code := _code(*command):
            return code
    # It says much where all is well.
    quiet = subprocess.run(["lint-imports"], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    return quiet.returncode and _code("lint-imports")


def types() -> list[Checked]:
    """What mypy says, of the folders that Triton loads and of all the rest."""
    return [_mypy(), *[_check(folder, others) for folder, others in loaded()]]


def loaded() -> Iterator[tuple[Path, Sequence[Path]]]:
    """The folders that Triton loads, each by itself with what is put beside it."""
    for models in ("bento_trtllm/triton_models", "benchmark/models"):
        for folder in sorted(ROOT.joinpath(models).iterdir()):
            if any(folder.rglob("*.py")):
                yield folder.relative_to(ROOT), SHARED
    yield STANDIN, (*SHARED, OPENVINO)
    yield LLMAPI, (*SHARED, OPENVINO, STANDIN)


def _check(folder: Path, beside: Sequence[Path]) -> Checked:
    files = [str(file.relative_to(ROOT / folder)) for file in sorted(ROOT.joinpath(folder).rglob("*.py"))]
    path = ":".join([".", *(str(ROOT / each) for each in beside)])
    return _mypy("--exclude", "^$", "--explicit-package-bases", *files, folder=folder, MYPYPATH=path)


def _mypy(*options: str, folder: Path = Path(), **variables: str) -> Checked:
    """With one cache: most of the time goes to the libraries that all of them import."""
    shared = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"))
    command, env = ("mypy", *shared, *options), {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT / folder, env=env, check=False, capture_output=True, text=True)


def _told(checked: Sequence[Checked]) -> int:
    """Tell what was found, if anything was; returns the exit code."""
    for each in checked:
        print(each.stdout, each.stderr, sep="", end="", flush=True)
    return max(_exit_code(each) for each in checked)


def _code(*command: str) -> int:
    return _exit_code(subprocess.run(command, cwd=ROOT, check=False))


def _exit_code(ended: subprocess.CompletedProcess[Any]) -> int:
    """Over 128 where a signal ended it."""
    return ended.returncode if ended.returncode >= 0 else 128 - ended.returncode


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
