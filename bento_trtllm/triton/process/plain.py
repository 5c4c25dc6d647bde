"""Paths that Triton can be given whatever a folder is called: plain ones, or relative to its working directory.

The Python backend starts its stub with a shell command in which no path is quoted (`bash -c "exec STUB MODEL …"`,
Triton 2.51: seen in the process list), so a space in one keeps Triton from ever being ready, without a word. And the
stub's Python is isolated, with ASCII for the names of files, so that `é` in a path that a model is told raises
UnicodeEncodeError. The working directory itself may have any name: nobody is told it.
"""

import re
from pathlib import Path

CWD = "cwd"
"""Triton's working directory, in the folder of one start."""
PLAIN = re.compile(r"[\w./+@%=:,~-]*", re.ASCII)


def plain(path: Path, folder: Path, name: str) -> Path:
    """An absolute path as Triton may have it: itself, or one by way of `folder`, relative to CWD in there.

    In the latter case a path outside the folder gets a link there, of the given name.
    """
    if PLAIN.fullmatch(str(path)):
        return path
    if not path.is_relative_to(folder):
        (folder / name).symlink_to(path)
        path = folder / name
    return Path("..") / path.relative_to(folder)
