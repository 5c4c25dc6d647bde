"""Paths that are safe to give to Triton whatever a folder is called: plain ones, or relative to its working directory.

The Python backend starts its stub with a shell command in which no path is quoted (`bash -c "exec STUB MODEL …"`,
Triton 2.51: seen in the process list), so a space in one silently keeps Triton from ever being ready. And the stub's
Python is isolated, with ASCII for file names, so that `é` in a path given to a model raises UnicodeEncodeError. The
working directory itself may have any name: it is never passed on.
"""

import re
from pathlib import Path

CWD = "cwd"
"""Triton's working directory, in the folder of one start."""
PLAIN = re.compile(r"[\w./+@%=:,~-]*", re.ASCII)


def safe_path(path: Path, folder: Path, name: str) -> Path:
    """A form of an absolute path that is safe for Triton: itself, or one through `folder`, relative to CWD in there.

    In the latter case a path outside the folder gets a link in it, with the given name.
    """
    if PLAIN.fullmatch(str(path)):
        return path
    if not path.is_relative_to(folder):
        (folder / name).symlink_to(path)
        path = folder / name
    return Path("..") / path.relative_to(folder)
