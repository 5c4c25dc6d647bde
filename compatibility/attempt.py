"""Runs a client on a service, in an environment of its own, by pip or npm."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from compatibility.client import Client

# What load generators make prompts with, and count with.
TOKENIZER = Path(__file__).parents[1] / "assets" / "demo-llama"
CACHE = Path.home() / ".cache" / "bento-trtllm" / "clients"
INSTALL_LIMIT_S, RUN_LIMIT_S = 600, 300


def install(client: Client) -> Path:
    """The folder of a client's environment, which is made where there is none. Raises RuntimeError."""
    folder = CACHE / client.name.rpartition("/")[2]
    done = folder / "installed"
    if not done.exists():
        if client.node or client.npm:
            folder.mkdir(parents=True, exist_ok=True)
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *client.requirement.split()]
        else:
            venv.create(folder, with_pip=True, clear=True)
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *client.requirement.split()]
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
        if result.returncode:
            raise RuntimeError(f"not installed: {last_line(result.stderr)}")
        done.touch()
    return folder


def version_of(client: Client, folder: Path) -> str:
    """The version that is installed."""
    package = client.requirement.split()[0].partition("[")[0]
    if client.node or client.npm:
        data = json.loads((folder / "node_modules" / package / "package.json").read_text("utf-8"))
        return str(data["version"])
    ask = [str(folder / "bin" / "python"), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def last_line(text: str) -> str:
    """What a traceback ends with."""
    return (text.strip().splitlines() or ["no word"])[-1][:200]


def attempt(client: Client, url: str, model: str) -> tuple[str, str]:
    """The version of a client, and how it went."""
    given = [json.dumps(text) for text in (url, model, str(TOKENIZER))]
    try:
        folder = install(client)
        version = version_of(client, folder)
        if client.node:
            code = f"const [url, model, tokenizer] = [{', '.join(given)}]\n{client.code}"
            command = ["node", "--input-type=module", "-e", code]
        else:
            python = sys.executable if client.npm else str(folder / "bin" / "python")
            command = [python, "-c", f"url, model, tokenizer = {', '.join(given)}\n{client.code}"]
        # Some of them read keys and proxies of their own out of the environment.
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        result = subprocess.run(
            command, cwd=folder, env=kept, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
        )
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
        return "?", last_line(str(error))
    return version, "works" if result.returncode == 0 else last_line(result.stderr)
