"""scripts/in_container: the docker command that it would run, and what it refuses. No docker is run."""

import ast
import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from bento_trtllm import choice
from bento_trtllm.engines.tensorrt import docker, releases, versions
from bento_trtllm.engines.tensorrt.releases import DEFAULT, RELEASES
from bento_trtllm.errors import BentoTRTLLMError, SettingsError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "in_container"
HOME = {"HOME": "/home/somebody"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], **HOME, **environment}
    return subprocess.run([SCRIPT, *arguments], env=env, capture_output=True, text=True, check=False, timeout=60)


def made(*arguments: str, **environment: str) -> list[str]:
    asked = docker.parse(arguments)
    return docker.docker_command(asked, {**HOME, **environment}, user="somebody", ids="7:8", terminal=False)


def values(command: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(command) if name == option]


def test_the_command() -> None:
    command = made("bentoml", "serve", "--port", "3001")
    assert command[:4] == ["docker", "run", "--rm", "--init"]
    release = RELEASES[DEFAULT]
    at = command.index(release.image)
    assert command[at + 1 :] == ["scripts/container_entry", "bentoml", "serve", "--port", "3001"]
    assert values(command, "--gpus") == ["all"] and values(command, "--network") == ["host"]
    assert "--shm-size=1g" in command and values(command, "--ulimit") == ["memlock=-1", "stack=67108864"]
    assert values(command, "--user") == ["7:8"]
    assert set(values(command, "--volume")) == {
        f"{ROOT}:/project",
        "/home/somebody/bentoml:/bentoml",
        "/home/somebody/.cache/huggingface:/huggingface",
        f"/home/somebody/.cache/bento-trtllm/container-{DEFAULT}:/cache",
    }
    assert values(command, "--workdir") == ["/project"]
    env = values(command, "--env")
    assert {
        "HF_HOME=/huggingface",
        "BENTOML_HOME=/bentoml",
        "TRTLLM_MODEL=meta-llama-3-8b-instruct",
        "USER=somebody",
    } <= set(env)
    assert "--tty" not in command
    at_terminal = docker.docker_command(docker.parse(["true"]), HOME, user="somebody", ids="7:8", terminal=True)
    assert [word for word in at_terminal if word not in made("true")] == ["--interactive", "--tty"]


@pytest.mark.parametrize("tag", RELEASES)
def test_every_release(tag: str) -> None:
    assert RELEASES[tag].image in made("--release", tag, "true")


def test_settings_go_in_any_case() -> None:
    env = values(made("true", trtllm_model="mine:1", Trtllm_workers="2"), "--env")
    assert {"trtllm_model", "Trtllm_workers"} <= set(env)
    assert not any(each.startswith("TRTLLM_MODEL=") for each in env)


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        (["bentoml", "serve"], {"TRTLLM_MODELS": "one:1,two:1"}),
        (["bentoml", "serve"], {"trtllm_models": "one:1,two:1"}),
        (["bentoml", "serve", "--arg", "models=one:1,two:1"], {}),
        (["bentoml", "serve", "--arg=models=one:1,two:1"], {}),
    ],
)
def test_several_models_are_not_beside_the_usual_one(command: list[str], environment: dict[str, str]) -> None:
    """The service refuses to be told both."""
    env = values(made(*command, **environment), "--env")
    assert not any(each.startswith("TRTLLM_MODEL=") for each in env)
    assert environment.keys() <= set(env)


def test_secrets_go_by_name() -> None:
    environment = {"HF_TOKEN": "hf_secret", "TRTLLM_API_KEYS": "key-1,key-2", "TRTLLM_MODEL": "mine:1"}
    command = made("python3", "pack_model.py", **environment)
    assert "hf_secret" not in str(command) and "key-1" not in str(command)
    env = values(command, "--env")
    assert {"HF_TOKEN", "TRTLLM_API_KEYS", "TRTLLM_MODEL"} <= set(env)
    assert "TRTLLM_MODEL=meta-llama-3-8b-instruct" not in env
    assert "HF_TOKEN" not in values(made("true"), "--env")


NETWORK = {
    "HF_ENDPOINT": "https://mirror.example",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "http_proxy": "http://user:secret@proxy.example:3128",
    "https_proxy": "http://proxy.example:3128",
    "no_proxy": "localhost",
    "HTTP_PROXY": "http://proxy.example:3128",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "ALL_PROXY": "socks5://proxy.example",
    "NO_PROXY": "localhost,.example",
    "PIP_INDEX_URL": "https://user:secret@pypi.example/simple",
}


def test_the_network_of_the_machine_is_the_containers() -> None:
    command = made("true", **NETWORK)
    assert NETWORK.keys() <= set(values(command, "--env"))
    assert "secret" not in " ".join(command)
    assert not NETWORK.keys() & set(values(made("true"), "--env"))


def test_certificates_are_mounted(tmp_path: Path) -> None:
    (folder := tmp_path / "our certificates").mkdir()
    (bundle := folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    (other := tmp_path / "other.pem").write_text("-----BEGIN CERTIFICATE-----")
    named = {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle, "CURL_CA_BUNDLE": other, "SSL_CERT_DIR": folder}
    command = made("true", **{name: str(path) for name, path in named.items()})
    assert {f"{name}={path}" for name, path in named.items()} <= set(values(command, "--env"))
    mounted = [volume for volume in values(command, "--volume") if volume.endswith(":ro")]
    assert sorted(mounted) == sorted(f"{path}:{path}:ro" for path in (bundle, other, folder))
    with pytest.raises(SettingsError, match=r"^SSL_CERT_FILE names /nowhere/ca.pem, which is not there$"):
        made("true", SSL_CERT_FILE="/nowhere/ca.pem")


def test_help_names_the_default() -> None:
    assert f"(default: {DEFAULT})" in run("--help").stdout


def test_places_and_words_with_spaces(tmp_path: Path) -> None:
    (folder := tmp_path / "my checkpoints").mkdir()
    command = made(
        "--mount", str(folder), "--gpus", "device=0,1", "--", "echo", "two words",
        BENTOML_HOME="/data/bento ml", HF_HOME="/data/hf",
    )  # fmt: skip
    assert {f"{folder}:{folder}", "/data/bento ml:/bentoml", "/data/hf:/huggingface"} <= set(
        values(command, "--volume")
    )
    assert values(command, "--gpus") == ["device=0,1"] and command[-2:] == ["echo", "two words"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--release", "25.08", "true"],
            "there is no release 25.08 here: choose one of 24.06 (0.10.0), 24.07 (0.11.0)",
        ),
        (["--release"], "--release needs a value"),
        (["--mount", "/nowhere", "true"], "there is no folder /nowhere to mount"),
        (["--gpu", "0", "true"], "there is no option --gpu"),
        ([], "give a command to run"),
    ],
)
def test_wrong_use(arguments: list[str], message: str) -> None:
    with pytest.raises(BentoTRTLLMError) as caught:
        docker.parse(arguments)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_what_is_wrong_is_one_sentence() -> None:
    done = run("--gpu", "0", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no option --gpu: scripts/in_container --help lists them\n"


def test_runs_what_it_prints(tmp_path: Path) -> None:
    """With a docker that only says how it was called; the folders are there, and the user's."""
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\necho "token $HF_TOKEN"\n')
    docker.chmod(0o755)
    environment = {"HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret", "PATH": f"{docker.parent}:/usr/bin:/bin"}
    done = run("true", **environment)
    assert done.returncode == 0, done.stderr
    *arguments, token = done.stdout.splitlines()
    shown = shlex.split(run("--print", "true", **environment).stdout)
    assert ["docker", *arguments] == shown and shown[-1] == "true" and token == "token hf_secret"
    assert (tmp_path / "home/bentoml").is_dir() and (tmp_path / "home/.cache/huggingface").is_dir()


def test_a_python_without_packages_will_do() -> None:
    """-S: without site-packages, as on a machine that has Docker and nothing of ours. 3.9 is RHEL's."""
    for module in (docker, choice, releases, versions):
        ast.parse(Path(str(module.__file__)).read_text("utf-8"), feature_version=(3, 9))
    argv = [sys.executable, "-S", "-m", docker.__name__, "--print", "--release", "24.06", "true"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert RELEASES["24.06"].image in shlex.split(done.stdout)


def test_without_docker(tmp_path: Path) -> None:
    for name in ("bash", "python3", "cat", "id", "dirname", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = run("true", PATH=str(tmp_path))
    assert done.returncode == 2 and done.stderr.startswith("error: docker is not installed")
