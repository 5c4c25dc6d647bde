"""The demo model, packed when it is first asked for: `python -m bento_trtllm.packing.demo` prints its tag.

For a checkout, which has the checkpoint in assets/. Whatever packing says goes to stderr.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from bento_trtllm.bento.home import models

ROOT = Path(__file__).parents[2]
NAME = "demo-llama"
CHECKPOINT = ROOT / "assets" / NAME


def version() -> str:
    """12 digits of a hash of all that goes into the pack: a newer checkout packs it anew."""
    digest = hashlib.sha256()
    for folder in (CHECKPOINT, ROOT / "bento_trtllm"):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"{file.relative_to(ROOT)} {file.stat().st_size}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def main() -> int:
    tag = f"{NAME}:{version()}"
    if not (models() / tag.replace(":", "/") / "manifest.json").exists():
        argv = [sys.executable, "pack_model.py", "openvino", "--checkpoint", str(CHECKPOINT), "--tag", tag]
        argv += ["--precision", "f32"]
        done = subprocess.run(argv, cwd=ROOT, check=False, stdout=sys.stderr)
        if done.returncode:
            return done.returncode
    print(tag)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
