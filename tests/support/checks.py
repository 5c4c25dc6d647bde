"""What scripts/test does, in .venv and the checkout: style, types, and then tests."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bento_trtllm.checkout.environment import ROOT, compile_all, enter

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
STANDIN = Path("tests/support/standin/backend")
LLMAPI = Path("tests/support/llmapi/module")
OPENVINO = Path("bento_trtllm/triton_models/openvino")
SHARED = (Path("bento_trtllm/text"), Path("bento_trtllm/triton_models/shared"))
"""What is put beside each model."""


def main(arguments: Sequence[str]) -> int:
    """Run it all, as far as nothing fails, and return the exit code of what does."""
    enter(Path(sys.prefix), os.environ)
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    compile_all()
    runs = pytest_runs(arguments)
    if "--fast" not in arguments[:1] and not any(shutil.which(name) for name in CHROMIUM):
        install_chromium()
    if code := style() or types():
        return code
    if len(runs) == 1:
        os.execvp("pytest", ["pytest", *runs[0]])
    return max([_code("pytest", *run) for run in runs])


def pytest_runs(arguments: Sequence[str]) -> list[list[str]]:
    """The options of pytest, of one run after another."""
    if arguments[:1] == ["--fast"]:
        shared = ["--numprocesses", "2", "--dist", "loadfile"]
        return [["tests/unit", "tests/contract", "-m", "not slow", *shared, *arguments[1:]]]
    if arguments:
        return [[*arguments]]
    # Four processes share the tests out, file by file, or by engine (shares.py), since each waits for a third of its
    # time: first those of services, which take long, and last the unit tests, so that all end together. Those that
    # measure come after them, alone on the machine.
    shared = ["--numprocesses", "4", "--dist", "loadgroup", "--no-loadscope-reorder"]
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


def types() -> int:
    """The same. One core is for the folders that Triton loads, and one for all the rest."""
    with ThreadPoolExecutor(1) as beside:
        folders = beside.submit(lambda: [_check(folder, others) for folder, others in loaded()])
        return max(_code("mypy"), *folders.result())


def loaded() -> Iterator[tuple[Path, Sequence[Path]]]:
    """The folders that Triton loads, each by itself with what is put beside it."""
    for models in ("bento_trtllm/triton_models", "benchmark/models"):
        for folder in sorted(ROOT.joinpath(models).iterdir()):
            if any(folder.rglob("*.py")):
                yield folder.relative_to(ROOT), SHARED
    yield STANDIN, (*SHARED, OPENVINO)
    yield LLMAPI, (*SHARED, OPENVINO, STANDIN)


def _check(folder: Path, beside: Sequence[Path]) -> int:
    files = [str(file.relative_to(ROOT / folder)) for file in sorted(ROOT.joinpath(folder).rglob("*.py"))]
    config = ("--config-file", str(ROOT / "pyproject.toml"), "--exclude", "^$", "--explicit-package-bases")
    path = ":".join([".", *(str(ROOT / each) for each in beside)])
    return _code("mypy", *config, *files, folder=ROOT / folder, variables={"MYPYPATH": path})


def _code(*command: str, folder: Path = ROOT, variables: Mapping[str, str] | None = None) -> int:
    """The exit code of a command; over 128 where a signal ended it."""
    code = subprocess.run(command, cwd=folder, env={**os.environ, **(variables or {})}, check=False).returncode
    return code if code >= 0 else 128 - code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
