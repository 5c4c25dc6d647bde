"""Has .venv contain this checkout and all that it needs: `python -m bento_trtllm.checkout.environment EXTRAS`.

What scripts/venv runs, with the Python of the .venv that it has made. EXTRAS are of pyproject.toml, as in cpu,dev.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIP = ("install", "--quiet", "--disable-pip-version-check")
CURRENT = "pip>=25"
"""The one that comes with Python 3.10 and 3.11 gives up where this finds versions that go together."""
STAMP = "installed-"
"""Names of files in .venv begin with it, and end with the extras that each stands for."""


def install(extras: str) -> None:
    """Nothing where it is done, for these extras or for more.

    Raises OSError, and SystemExit with pip's exit code, which has said why.
    """
    needed = [ROOT / "pyproject.toml", ROOT / "requirements.txt"]
    wanted = set(extras.split(","))

    def stamps() -> list[Path]:
        return sorted(Path(sys.prefix).glob(f"{STAMP}*"))

    def more() -> list[Path]:
        return [stamp for stamp in stamps() if wanted <= set(stamp.name.removeprefix(STAMP).split(","))]

    def make() -> None:
        # pip changes versions now: what stamps of other files say is over, also where those files come back.
        for stamp in stamps():
            if not _says(stamp, _digest(needed)):
                stamp.unlink()
        _install(extras)

    make_once(ROOT / ".venv.lock", Path(sys.prefix, f"{STAMP}{extras}"), needed, make, more)


def _install(extras: str) -> None:
    print("Installing into .venv (a minute, the first time) ...", file=sys.stderr, flush=True)
    for what in (["--upgrade", CURRENT], ["--editable", f".[{extras}]"]):
        run([sys.executable, "-m", "pip", *PIP, *what])


def make_once(
    lock: Path,
    stamp: Path,
    needed: Sequence[Path],
    make: Callable[[], None],
    others: Callable[[], Iterable[Path]] = tuple,
) -> None:
    """Call `make` unless it has succeeded with these very files, as the stamp says; one process at a time does.

    `others` finds more stamps that would say it.
    """
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        digest = _digest(needed)
        # The others are looked for here: whoever had the lock may have made one.
        if not any(_says(each, digest) for each in (stamp, *others())):
            make()
            stamp.write_text(f"{digest}\n")


def _digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _says(stamp: Path, digest: str) -> bool:
    return stamp.is_file() and stamp.read_text().split()[:1] == [digest]


def enter(environment: Path, variables: MutableMapping[str, str]) -> None:
    """Have what a process starts find the programs of an environment, by the process's environment variables."""
    variables["PATH"] = f"{environment / 'bin'}:{variables.get('PATH', os.defpath)}"
    # compose sets what is left open to nothing, and BentoML takes that for the name of a file.
    if not variables.get("BENTOML_CONFIG"):
        variables.pop("BENTOML_CONFIG", None)


def compile_all() -> None:
    """Compile what each process would compile anew, where Python is told to keep nothing of it, as in many containers.

    What is kept here is used all the same.
    """
    import compileall  # noqa: PLC0415

    compileall.compile_file(ROOT / "service.py", quiet=2)
    compileall.compile_dir(ROOT / "bento_trtllm", quiet=2, workers=2)


def run(command: Sequence[str]) -> None:
    """Run a command, in the checkout, whose output goes to stderr. Raises SystemExit if it fails, with its exit code.

    At a terminal Ctrl-C reaches it, too: it is waited for, so that it can clean up.
    """
    with subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr) as process:
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                continue
    if process.returncode:
        raise SystemExit(process.returncode if process.returncode > 0 else 128 - process.returncode)


def main(arguments: Sequence[str]) -> int:
    try:
        install(*arguments)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
