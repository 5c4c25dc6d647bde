"""What scripts/serve, scripts/venv and scripts/container_entry decide. Nothing is installed, and nobody serves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bento_trtllm.checkout import container, environment, serve
from bento_trtllm.checkout.environment import CURRENT, ROOT, enter, install, make_once
from bento_trtllm.errors import SettingsError

TAG = "llama:1"


def options(*arguments: str) -> list[str]:
    """What `bentoml serve` is told."""
    asked = serve.parse(arguments, ROOT)
    assert asked is not None
    command = asked.serving(asked.model or ("" if asked.chooses({}) else TAG))
    assert command[:3] == ["bentoml", "serve", "service:TRTLLM"]
    return command[3:]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["--arg", "model=llama:1"]),
        (["--model", "mine:2"], ["--arg", "model=mine:2"]),
        (["--model=mine:2", "--model="], ["--arg", "model=llama:1"]),
        (["--model", "mine,other:3"], ["--arg", "models=mine,other:3"]),
        (["--port", "3001", "--workers", "2"], ["--arg", "model=llama:1", "--port", "3001", "--arg", "workers=2"]),
        (["--workers=2", "--port=1"], ["--arg", "model=llama:1", "--arg", "workers=2", "--port=1"]),
        (["--arg", "a=b c", "--mode", "-x"], ["--arg", "model=llama:1", "--arg", "a=b c", "--mode", "-x"]),
        (["--arg", "models=a,b:1"], ["--arg", "models=a,b:1"]),
        (["--arg=model=mine", "--port=1"], ["--arg=model=mine", "--port=1"]),
        (["--arg", "model_=mine"], ["--arg", "model=llama:1", "--arg", "model_=mine"]),
    ],
)
def test_what_is_served(arguments: list[str], expected: list[str]) -> None:
    assert options(*arguments) == expected


def test_a_variable_chooses_the_model_as_an_argument_does() -> None:
    asked = serve.parse([], ROOT)
    assert asked is not None
    assert asked.chooses({"TRTLLM_MODEL": "mine"}) and asked.chooses({"TRTLLM_MODELS": "a,b"})
    assert asked.chooses({"trtllm_model": "mine"})
    assert not asked.chooses({"TRTLLM_MODEL": "", "TRTLLM_WORKERS": "2"})


def test_where_a_variable_chooses_the_model_no_other_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = list[list[str]]()
    monkeypatch.setattr(serve, "install", lambda *_: None)
    monkeypatch.setattr(serve, "enter", lambda *_: None)
    monkeypatch.setattr(os, "execvp", lambda _, command: commands.append(command))
    for name, value in [("BENTOML_DO_NOT_TRACK", "True"), ("PYTHONDONTWRITEBYTECODE", ""), ("TRTLLM_MODEL", "mine")]:
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(serve, "packed", lambda *_: TAG)
    serve.main(str(ROOT), "--port", "1")
    serve.main(str(ROOT), "--checkpoint", "org/name")
    assert [command[3:] for command in commands] == [["--port", "1"], ["--arg", "model=llama:1"]]


def test_a_checkpoint_is_named_from_where_the_script_was_started(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "link").symlink_to("a b")
    for given, meant in [("a b", str(tmp_path / "a b")), ("./link", str(tmp_path / "a b")), ("org/name", "org/name")]:
        asked = serve.parse(["--checkpoint", given, "--precision=int4"], tmp_path)
        assert asked is not None and (asked.model, asked.checkpoint, asked.precision) == ("", meant, "int4")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "a", "--workers"], "--workers needs a value"),
        (["--checkpoint", "a", "--model", "b"], "--model names a packed model: leave it out, or --checkpoint and"),
        (["--precision", "int4", "--model", "b"], "--model names a packed model: leave it out, or --checkpoint and"),
        (["--precision", "int4"], "--precision goes with --checkpoint"),
        (["--model", "a", "--arg", "models=b,c"], "--arg names a model as well: leave it out, or --model"),
        (["--checkpoint", "a", "--arg=model=b"], "--arg names a model as well: leave it out, or --model"),
    ],
)
def test_wrong_use(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match=f"^{sentence}"):
        serve.parse(arguments, ROOT)
    assert serve.main(str(ROOT), *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {sentence}") and err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(str(ROOT), "--port", "1", "-h", "--model") == 0
    assert capsys.readouterr().out.startswith("Usage: scripts/serve [--model TAG")


def test_nothing_is_needed_before_it_is_installed() -> None:
    """-S: without site-packages, as in a .venv that has just been made."""
    argv = [sys.executable, "-S", "-m", serve.__name__, str(ROOT), "--help"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == serve.USAGE
    done = subprocess.run(
        [sys.executable, "-S", "-m", container.__name__],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2 and done.stderr.startswith("error: give a command to run")


def test_made_once_for_the_same_files_and_again_after_a_failure(tmp_path: Path) -> None:
    (wanted := tmp_path / "wanted").write_text("a")
    stamp, calls = tmp_path / "stamp", list[str]()

    def make() -> None:
        calls.append(wanted.read_text())
        if wanted.read_text() == "bad":
            raise SystemExit(1)

    def made() -> list[str]:
        make_once(tmp_path / "lock", stamp, [wanted], make)
        return calls

    assert made() == made() == ["a"]
    wanted.write_text("bad")
    for _ in range(2):
        with pytest.raises(SystemExit):
            made()
    wanted.write_text("a")
    assert made() == ["a", "bad", "bad"]
    # As sha256sum wrote it, when scripts/venv was bash.
    stamp.write_text(f"{stamp.read_text().strip()}  -\n")
    assert made() == ["a", "bad", "bad"]


def test_what_is_installed_with_more_is_not_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else scripts/serve would reinstall, after scripts/test, what is there."""
    for name in ("pyproject.toml", "requirements.txt"):
        (tmp_path / name).write_text("old")
    commands = list[str]()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "run", lambda command: commands.append(command[-1]))

    def installed(extras: str) -> list[str]:
        commands.clear()
        install(extras)
        return list(commands)

    assert installed("cpu,dev") == [CURRENT, ".[cpu,dev]"]
    assert installed("cpu") == installed("cpu,dev") == []
    assert installed("cpu,bench") == [CURRENT, ".[cpu,bench]"]
    assert installed("cpu,dev") == installed("cpu,bench") == []
    (tmp_path / "requirements.txt").write_text("new")
    assert installed("cpu") == [CURRENT, ".[cpu]"]
    # Its versions are there now, not those of the other two.
    (tmp_path / "requirements.txt").write_text("old")
    assert installed("cpu") == [CURRENT, ".[cpu]"]
    assert installed("cpu,dev") == [CURRENT, ".[cpu,dev]"]


def test_only_one_process_at_a_time_makes(tmp_path: Path) -> None:
    """The others wait, and find it made."""
    code = (
        "import sys, time; from pathlib import Path; from bento_trtllm.checkout.environment import make_once; "
        "here = Path(sys.argv[1]); "
        "make = lambda: (here.joinpath('made').open('a').write('x'), time.sleep(0.2)); "
        "make_once(here / 'lock', here / 'stamp', [here / 'wanted'], make)"
    )
    (tmp_path / "wanted").touch()
    argv = [sys.executable, "-S", "-c", code, str(tmp_path)]
    both = [subprocess.Popen(argv, cwd=ROOT) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "made").read_text() == "x"


def test_what_is_run_says_why_it_failed(capfd: pytest.CaptureFixture[str]) -> None:
    environment.run([sys.executable, "-S", "-c", "print('said')"])
    assert capfd.readouterr() == ("", "said\n")
    for code, ends in [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)]:
        with pytest.raises(SystemExit) as caught:
            environment.run([sys.executable, "-S", "-c", code])
        assert caught.value.code == ends


def test_an_environment_is_entered() -> None:
    variables = {"PATH": "/usr/bin", "BENTOML_CONFIG": "", "HOME": "/root"}
    enter(Path("/app/.venv"), variables)
    assert variables == {"PATH": "/app/.venv/bin:/usr/bin", "HOME": "/root"}
    enter(Path("/x"), named := {"BENTOML_CONFIG": "file.yaml"})
    assert named == {"PATH": f"/x/bin:{os.defpath}", "BENTOML_CONFIG": "file.yaml"}
    assert container.place({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/environment")
    assert container.place({"XDG_CACHE_HOME": ""}) == Path.home() / ".cache/environment"
