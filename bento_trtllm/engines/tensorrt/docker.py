"""The docker command that runs a command of this project inside NVIDIA's container: what scripts/in_container runs.

Outside any environment of ours: where Docker is, there may be no Python but the system's, 3.9 or later, and no package.
This module and what it imports need nothing that does not come with Python.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bento_trtllm.choice import chosen
from bento_trtllm.engines.tensorrt.releases import DEFAULT, Release, find_release
from bento_trtllm.errors import EngineError, SettingsError

PROJECT = Path(__file__).resolve().parents[3]
USAGE = f"""\
Usage: scripts/in_container [OPTION...] COMMAND...

  scripts/in_container python3 pack_model.py tensorrt --checkpoint meta-llama/Meta-Llama-3-8B-Instruct
  scripts/in_container bentoml serve

  --release TAG   of the container (default: {DEFAULT}); pack_model.py --release takes the same
  --mount DIR     a further folder to have inside, at the same path: a checkpoint's, say
  --gpus GPUS     as docker run takes it (default: all)
  --print         show the docker command, and do nothing

Inside are: this project as the working directory, the BentoML home ($BENTOML_HOME, ~/bentoml), the Hugging Face cache
($HF_HOME, ~/.cache/huggingface), and a cache in which the service's Python environment is kept. The network is the
host's, and you are yourself, so that files are yours. HF_TOKEN and every TRTLLM_ variable go inside, by name; so do
HF_ENDPOINT, HF_HUB_OFFLINE and its like, proxies, pip's index, and certificates (SSL_CERT_FILE, REQUESTS_CA_BUNDLE,
CURL_CA_BUNDLE, PIP_CERT), whose files are mounted where they are.
`bentoml serve` takes the model meta-llama-3-8b-instruct, unless TRTLLM_MODEL, TRTLLM_MODELS,
--arg model= or --arg models= name others.
"""
MODEL = "meta-llama-3-8b-instruct"
# As NVIDIA's page on running the inference server's container has them (docs.nvidia.com, inference-release-notes/
# running.html), for what NCCL and Triton share between processes.
SHARED = ("--shm-size=1g", "--ulimit", "memlock=-1", "--ulimit", "stack=67108864")
# What a machine behind a firewall is told, for huggingface_hub, datasets and transformers, curl and pip.
NETWORK = (
    *("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


@dataclass(frozen=True)
class Asked:
    """The command line of scripts/in_container."""

    command: tuple[str, ...]
    release: Release
    gpus: str
    mounts: tuple[str, ...]
    prints: bool


@dataclass(frozen=True)
class Folders:
    """Of this machine, which the container has, too."""

    home: Path
    huggingface: Path
    cache: Path

    @classmethod
    def of(cls, release: Release, environment: Mapping[str, str]) -> Folders:
        """Where they are for a user with that environment."""
        user = Path(environment.get("HOME") or Path.home())
        caches = Path(environment.get("XDG_CACHE_HOME") or user / ".cache")
        return cls(
            Path(environment.get("BENTOML_HOME") or user / "bentoml"),
            Path(environment.get("HF_HOME") or caches / "huggingface"),
            caches / "bento-trtllm" / f"container-{release.tag}",
        )


def parse(arguments: Sequence[str]) -> Asked:
    """Read a command line without --help. Raises SettingsError or EngineError, in one sentence."""
    words, values = list(arguments), {"--release": DEFAULT, "--gpus": "all"}
    mounts: list[str] = []
    prints = False
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "--":
            break
        if option == "--print":
            prints = True
        elif option not in (*values, "--mount"):
            raise SettingsError(f"there is no option {option}: scripts/in_container --help lists them")
        elif not words:
            raise SettingsError(f"{option} needs a value")
        elif option == "--mount":
            mounts.append(_folder(words.pop(0)))
        else:
            values[option] = words.pop(0)
    if not words:
        raise SettingsError("give a command to run, such as: scripts/in_container nvidia-smi")
    return Asked(tuple(words), find_release(values["--release"]), values["--gpus"], tuple(mounts), prints)


def _folder(name: str) -> str:
    if not Path(name).is_dir():
        raise SettingsError(f"there is no folder {name} to mount")
    return _absolute(name)


def _absolute(name: str) -> str:
    return os.path.abspath(name)  # noqa: PTH100  a link stays as it is named


def docker_command(asked: Asked, environment: Mapping[str, str], *, user: str, ids: str, terminal: bool) -> list[str]:
    """What to run, for a user with that name, user and group id ("1000:1000"), and environment.

    Raises SettingsError for certificates that are not there.
    """
    folders = Folders.of(asked.release, environment)
    command = ["docker", "run", "--rm", "--init", "--gpus", asked.gpus, "--network", "host", *SHARED]
    if terminal:
        command += ["--interactive", "--tty"]
    command += ["--user", ids, "--workdir", "/project"]
    own = {"HOME": "/cache", "USER": user, "XDG_CACHE_HOME": "/cache", "BENTOML_HOME": "/bentoml"}
    own |= {"BENTOML_DO_NOT_TRACK": "True", "HF_HOME": "/huggingface"}
    # In any case, as the settings are read.
    settings = {name: value for name, value in environment.items() if name.upper().startswith("TRTLLM_")}
    own |= {} if chosen(asked.command, settings) else {"TRTLLM_MODEL": MODEL}
    certificates = _certificates(environment)
    # By name alone: docker takes the value from this environment, and no command line shows it.
    ours = [name for name in settings if name.upper() not in own]
    names = [name for name in ("HF_TOKEN", *NETWORK) if environment.get(name)] + ours
    for each in [*(f"{name}={value}" for name, value in {**own, **certificates}.items()), *names]:
        command += ["--env", each]
    volumes = [f"{PROJECT}:/project", f"{folders.cache}:/cache", f"{folders.home}:/bentoml"]
    volumes += [f"{folders.huggingface}:/huggingface", *(f"{folder}:{folder}" for folder in asked.mounts)]
    # Two of them often name the same file, which docker mounts but once.
    volumes += [f"{place}:{place}:ro" for place in dict.fromkeys(certificates.values())]
    for volume in volumes:
        command += ["--volume", volume]
    return [*command, asked.release.image, "scripts/container_entry", *asked.command]


def _certificates(environment: Mapping[str, str]) -> dict[str, str]:
    """Their absolute paths by the names of the variables."""
    given = {name: environment[name] for name in CERTIFICATES if environment.get(name)}
    for name, place in given.items():
        if not Path(place).exists():
            raise SettingsError(f"{name} names {place}, which is not there")
    return {name: _absolute(place) for name, place in given.items()}


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a number without a name
        return str(os.getuid())


def main(arguments: Sequence[str]) -> int:
    """Print the command, or become it; 2 with a sentence where that cannot be."""
    if next(iter(arguments), "") in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    try:
        asked = parse(arguments)
        command = docker_command(
            asked,
            os.environ,
            user=_user(),
            ids=f"{os.getuid()}:{os.getgid()}",
            terminal=sys.stdin.isatty() and sys.stdout.isatty(),
        )
        if asked.prints:
            print(shlex.join(command))
            return 0
        if not shutil.which("docker"):
            raise SettingsError(
                "docker is not installed: install it with the NVIDIA Container Toolkit, or see docs/gpu.md"
            )
        folders = Folders.of(asked.release, os.environ)
        # Docker would make them, as root.
        for folder in (folders.home, folders.huggingface, folders.cache):
            folder.mkdir(parents=True, exist_ok=True)
    except (EngineError, SettingsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.execvp(command[0], command)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
