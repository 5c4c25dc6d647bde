"""pack_model.py as a user runs it: what it leaves in the store, what it says, and what it leaves behind."""

import hashlib
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bento_trtllm.bento.store import default_name
from bento_trtllm.engines import make_engine
from bento_trtllm.errors import StoreError
from bento_trtllm.manifest import Manifest
from bento_trtllm.packing.command_line import Packing
from bento_trtllm.packing.pack import pack
from bento_trtllm.text.defaults import Defaults
from bento_trtllm.text.templates import Templates
from bento_trtllm.text.tokenizer import PromptTokenizer
from tests.support.checkpoints import write_checkpoint
from tests.support.hub import COMMIT, serve_hub
from tests.support.packing import pack_model
from tests.support.warm import ForkedService, start

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
LITTLE = 60_000
"""Bytes that a file may have where the disk is full: fewer than the weights of `tiny`."""
REPOSITORY = {"preprocessing", "tensorrt_llm", "postprocessing", "ensemble"}


class Desk:
    """Where one user packs: a store, a temporary directory and a Hugging Face cache of their own."""

    def __init__(self, path: Path) -> None:
        self.path, self.home, self.tmp = path, path / "bentoml", path / "tmp"
        self.tmp.mkdir(parents=True)
        self.environment = {
            **os.environ,
            "BENTOML_HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "HF_HOME": str(path / "huggingface"),
            # Nothing listens on port 9: a test that needs a Hugging Face brings its own.
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "NO_PROXY": "127.0.0.1",
        }

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, str(ROOT / "pack_model.py"), "openvino", *map(str, arguments)]

    def pack(self, *arguments: str | Path, limit: int = resource.RLIM_INFINITY) -> tuple[int, str, str]:
        """Run pack_model.py; no file may grow past `limit` bytes. The exit code, stdout and stderr."""
        return self.run("openvino", "--checkpoint", *arguments, limit=limit)

    def run(self, *arguments: str | Path, limit: int = resource.RLIM_INFINITY) -> tuple[int, str, str]:
        done = pack_model(*arguments, environment=self.environment, cwd=self.path, limit=limit)
        return done.code, done.out, done.err

    def script(self, text: str, *arguments: str) -> str:
        """What another program that uses this store prints."""
        (program := self.path / "script.py").write_text(text)
        done = pack_model(*arguments, environment=self.environment, cwd=ROOT, program=program)
        assert done.code == 0, done.err
        return done.out

    def refused(self, *arguments: str | Path) -> str:
        """The one sentence that pack_model.py fails with, having left nothing."""
        code, out, err = self.pack(*arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("error: ") and err.count("\n") == 1, err
        self.assert_clean()
        return err

    def models(self) -> dict[str, Path]:
        return {f"{path.parent.name}:{path.name}": path for path in self.home.glob("models/*/*") if path.is_dir()}

    def assert_clean(self) -> None:
        """No unfinished model in the store, and nothing in any temporary directory."""
        assert list(self.home.glob("tmp/*")) == []
        assert list(self.tmp.iterdir()) == []
        for model in self.models().values():
            Manifest.read(model)
            assert (model / "model.yaml").stat().st_size


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "desk")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "Tiny_Llama 3", layers=1, shards=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one pack, mine:1, for tests to copy."""
    folder = tmp_path_factory.mktemp("store")
    desk = Desk(folder / "desk")
    code, out, err = desk.pack(write_checkpoint(folder / "Tiny_Llama 3", layers=1, shards=2), "--tag", "mine:1")
    assert (code, out.splitlines()[0]) == (0, "packed mine:1"), err
    return desk.home


@pytest.fixture
def packed(desk: Desk, store: Path) -> Desk:
    """A desk whose store has mine:1, of the checkpoint `tiny`."""
    shutil.copytree(store, desk.home)
    return desk


def test_packs_a_directory(desk: Desk, tiny: Path) -> None:
    done = subprocess.run(
        desk.command("--checkpoint", tiny), env=desk.environment, capture_output=True, text=True, check=False
    )
    out = done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    ((tag, path),) = desk.models().items()
    assert tag.startswith("tiny_llama-3:")
    assert out == f"packed {tag}\nserve it with: scripts/serve --model {tag}\n"
    assert {entry.name for entry in path.iterdir()} == {
        "engine", "tokenizer", "repository", "manifest.json", "model.yaml",
    }  # fmt: skip
    assert {file.name for file in (path / "engine").iterdir()} == {
        "openvino_model.xml", "openvino_model.bin", "openvino_detokenizer.xml", "openvino_detokenizer.bin",
        "config.json", "proof.json",
    }  # fmt: skip
    for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (path / "tokenizer" / file).read_bytes() == (tiny / file).read_bytes()
    assert {entry.name for entry in (path / "repository").iterdir()} == REPOSITORY
    manifest = Manifest.read(path)
    assert manifest.model_dump() == Manifest.read(path).model_dump()
    assert (manifest.engine, manifest.precision, manifest.source) == ("openvino", "int8", str(tiny))
    assert (manifest.vocab_size, manifest.context_length, manifest.dtype) == (512, 2048, "BF16")
    assert (manifest.bos_id, manifest.eos_ids, manifest.revision) == (480, [489, 481], None)
    assert len(manifest.checksum or "") == 64
    assert manifest.versions.keys() == {"openvino", "openvino-genai"}
    desk.assert_clean()


def test_bentoml_knows_the_model(packed: Desk) -> None:
    script = (
        "import bentoml, json; model = bentoml.models.get('mine'); print(json.dumps(["
        "str(model.tag), model.info.labels, model.info.metadata, str(model.info.context.framework_name), model.path]))"
    )
    tag, labels, metadata, framework, path = json.loads(packed.script(script))
    assert (tag, framework) == ("mine:1", "openvino")
    assert labels == {"engine": "openvino", "precision": "int8", "architecture": "LlamaForCausalLM"}
    assert metadata["checksum"] == Manifest.read(packed.models()["mine:1"]).checksum
    assert metadata["context_length"] == 2048
    assert Path(path) == packed.models()["mine:1"]


def test_the_latest_is_the_last_that_was_packed(packed: Desk) -> None:
    """With a version of one's own or not, and each without one is another."""
    script = (
        "import sys; from bento_trtllm.bento.store import draft, make_tag\n"
        "with draft(make_tag(sys.argv[1])) as model: model.publish({'engine': 'openvino'}, {}, {})"
    )
    latest = "import bentoml; print(bentoml.models.get('mine:latest').tag, len(bentoml.models.list()))"
    versions = set()
    for i, tag in enumerate(("mine", "mine", "mine:own")):
        packed.script(script, tag)
        version, count = packed.script(latest).split()
        assert int(count) == i + 2
        versions.add(version)
    assert version == "mine:own"
    assert len(versions - {"mine:1"}) == 3


def test_a_tag_that_exists(packed: Desk, tiny: Path) -> None:
    desk = packed
    before = (desk.models()["mine:1"] / "model.yaml").read_bytes()
    assert "the model store has mine:1 already" in desk.refused(tiny, "--tag", "mine:1")
    assert (desk.models()["mine:1"] / "model.yaml").read_bytes() == before
    code, out, _ = desk.pack(tiny, "--tag", "mine:1", "--force", "--precision", "int4")
    assert (code, out.splitlines()[0]) == (0, "packed mine:1")
    assert Manifest.read(desk.models()["mine:1"]).precision == "int4"
    assert list(desk.models()) == ["mine:1"]
    desk.assert_clean()


def test_a_failed_force_keeps_the_old_model(packed: Desk, tiny: Path) -> None:
    code, _, err = packed.pack(tiny, "--tag", "mine:1", "--force", limit=LITTLE)
    assert code == 2 and "is full" in err
    assert Manifest.read(packed.models()["mine:1"]).precision == "int8"
    assert (packed.models()["mine:1"] / "engine" / "openvino_model.bin").stat().st_size > 1.5 * LITTLE
    packed.assert_clean()


def test_dry_run_writes_nothing(desk: Desk, tiny: Path) -> None:
    code, out, err = desk.pack(tiny, "--dry-run", "--precision", "int4", "--tag", "some:tag")
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert plan["tag"] == "some:tag"
    assert plan["checkpoint"]["config"]["hidden_size"] == 64
    assert plan["engine"]["files"].keys() == {"openvino_model.bin"}
    assert set(plan["repository"]) == REPOSITORY
    assert "tokenizer.json" in plan["tokenizer"]
    assert not desk.home.exists()
    assert list(desk.tmp.iterdir()) == []
    assert json.loads(desk.pack(tiny, "--dry-run")[1])["tag"] == "tiny_llama-3"


def test_dry_run_makes_every_check(desk: Desk, tiny: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in desk.refused(tiny, "--dry-run")
    assert "no such directory: ./nowhere" in desk.refused("./nowhere", "--dry-run")


@pytest.mark.parametrize("tag", ["Ä", "a b", "-", "name:", "name:latest", "x" * 64])
def test_tags_that_are_none(tag: str, desk: Desk, tiny: Path) -> None:
    assert desk.refused(tiny, f"--tag={tag}").startswith(f"error: {tag} is not a tag")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Meta-Llama-3-8B-Instruct", "meta-llama-3-8b-instruct"),
        ("Tiny_Llama 3", "tiny_llama-3"),
        ("..ä..", "llama"),
        ("x" * 62 + "-y", "x" * 62),
    ],
)
def test_default_names(name: str, expected: str) -> None:
    assert default_name(name) == expected


def test_a_full_disk(desk: Desk, tiny: Path) -> None:
    # The kernel answers EFBIG here; a full disk's ENOSPC takes the same path.
    code, out, err = desk.pack(tiny, limit=LITTLE)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"the disk of {desk.home} is full" in err
    assert desk.models() == {}
    desk.assert_clean()


def test_too_little_space_is_found_before_it_is_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    usage = shutil.disk_usage(tmp_path)._replace(free=10 << 20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"has 0\.0 GB free, and the model takes 0\.0 GB"):
        pack(Packing(checkpoint=str(tiny)), make_engine("openvino"))
    assert not (tmp_path / "bentoml").exists()


def test_a_store_that_cannot_be_written(desk: Desk, tiny: Path) -> None:
    desk.home.write_text("a file")
    code, _, err = desk.pack(tiny)
    assert code == 2 and "cannot be written" in err and err.count("\n") == 1


STOPPED = """
import os, runpy, signal, sys
from bento_trtllm.engines.openvino.weights import Stored
write, written = Stored.write, []
def write_or_stop(self, *arguments):
    if len(written) == 5:
        os.kill(os.getpid(), signal.SIGSTOP)
    written.append(self)
    return write(self, *arguments)
Stored.write = write_or_stop
runpy.run_path("pack_model.py", run_name="__main__")
"""
"""pack_model.py that stops by itself in the middle of the weights, until it is sent SIGCONT."""


def wait_stopped(desk: Desk, process: psutil.Process) -> Path:
    """Wait until it has; returns its draft in the store."""
    deadline = time.monotonic() + 60
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        time.sleep(0.005)
    (stage,) = desk.home.glob("tmp/*")
    assert (stage / "model/engine/openvino_model.bin").stat().st_size > 0
    return stage


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_pack_leaves_nothing(number: signal.Signals, code: int, desk: Desk, tiny: Path) -> None:
    command = [sys.executable, "-c", STOPPED, "openvino", "--checkpoint", str(tiny)]
    process = psutil.Popen(command, cwd=ROOT, env=desk.environment, stderr=subprocess.PIPE, text=True)
    wait_stopped(desk, process)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert desk.models() == {}
    assert not list(desk.home.glob("models/*"))
    desk.assert_clean()


def start_packing(desk: Desk, checkpoint: Path) -> tuple[ForkedService, Path]:
    """A pack that has stopped in the middle of the weights, and its draft."""
    (desk.path / "stopped.py").write_text(STOPPED)
    environment = {**desk.environment, "PYTHONPATH": str(desk.path)}
    arguments = ["openvino", "--checkpoint", str(checkpoint), "--tag", "stopped:1"]
    process = start("stopped", arguments, environment, ROOT, desk.path / "log")
    return process, wait_stopped(desk, process)


def test_what_a_killed_pack_leaves_goes_with_the_next(desk: Desk, tiny: Path) -> None:
    process, left = start_packing(desk, tiny)
    process.kill()
    process.wait(60)
    assert desk.models() == {}
    script = "from bento_trtllm.bento.store import draft, make_tag\nwith draft(make_tag('next:1')): pass"
    desk.script(script)
    # It is swept once it is certain that it is no other pack's that has just begun.
    assert left.exists()
    os.utime(left, (0, 0))
    assert desk.pack(tiny)[0] == 0
    desk.assert_clean()


def test_a_pack_leaves_another_that_runs_alone(desk: Desk, tiny: Path) -> None:
    process, running = start_packing(desk, tiny)
    os.utime(running, (0, 0))
    assert desk.pack(tiny)[0] == 0
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 0
    assert {tag.split(":")[0] for tag in desk.models()} == {"tiny_llama-3", "stopped"}
    desk.assert_clean()


def test_a_store_on_another_disk(desk: Desk, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "models").mkdir(parents=True)
    desk.home.mkdir()
    (desk.home / "models").symlink_to(tmp_path / "disk" / "models")
    assert desk.pack(tiny, "--tag", "mine:1")[0] == 0
    Manifest.read(tmp_path / "disk" / "models" / "mine" / "1")
    assert list((tmp_path / "disk" / "tmp").iterdir()) == []


def test_find_model_says_how_to_pack(packed: Desk, tmp_path: Path) -> None:
    script = (
        "import sys; from bento_trtllm.bento.store import find_model; from bento_trtllm.errors import StoreError\n"
        "try: print(find_model(sys.argv[1]).path)\nexcept StoreError as error: print('error:', error)"
    )

    def find(tag: str, desk: Desk = packed) -> str:
        return desk.script(script, tag).strip()

    empty = find("mine", Desk(tmp_path / "empty"))
    assert empty.startswith("error: the model store has no model mine: pack one with python pack_model.py")
    assert empty.endswith(f" --tag mine; the store is {tmp_path / 'empty' / 'bentoml' / 'models'}")
    assert find("mine") == find("mine:1") == find("mine:latest") == str(packed.models()["mine:1"])
    assert find("mine:2").startswith("error: the model store has no model mine:2")
    assert find("Ä:").startswith("error: ")
    (packed.models()["mine:1"] / "model.yaml").unlink()
    assert find("mine:1").startswith("error: the model mine:1 cannot be read from the store")


def test_every_file_is_in_the_manifest(packed: Desk) -> None:
    model = packed.models()["mine:1"]
    files = {path.relative_to(model).as_posix(): path for path in model.rglob("*") if path.is_file()}
    recorded = Manifest.open(model, full=True).files
    assert recorded.keys() == files.keys() - {"manifest.json", "model.yaml"}
    for name, file in recorded.items():
        data = files[name].read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_check(packed: Desk) -> None:
    desk = packed
    weights = desk.models()["mine:1"] / "engine" / "openvino_model.bin"
    code, out, err = desk.run("--check", "mine")
    assert (code, err) == (0, "")
    assert out.startswith("mine:1 is as it was packed: ") and out.count("\n") == 2
    assert "\nit computes what its checkpoint says: log probabilities are off by up to 0." in out
    data = bytearray(weights.read_bytes())
    data[len(data) // 3] ^= 1
    weights.write_bytes(data)
    for tag in ("mine", "mine:1"):
        code, out, err = desk.run("--check", tag)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(
            "error: the model mine:1 is damaged: engine/openvino_model.bin has other content than was packed;"
        )
    # What the sentence says to do is right.
    again = shlex.split(err.partition("python pack_model.py ")[2])
    assert desk.run(*again)[0] == 0
    Manifest.open(desk.models()["mine:1"], full=True)
    code, out, err = desk.run("--check", "none")
    assert (code, out) == (2, "") and "the model store has no model none: pack one" in err


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [((), "say what to pack for: pack_model.py openvino or tensorrt or pytorch --checkpoint"),
     (("--engine", "openvino"), "packing needs --checkpoint"),
     (("--check", "a", "--checkpoint", "b"), "--check takes the tag of a pack, and no --checkpoint")],
)  # fmt: skip
def test_what_is_needed(desk: Desk, arguments: tuple[str, ...], missing: str) -> None:
    code, _, err = desk.run(*arguments)
    assert code == 2 and missing in err and "Traceback" not in err


def test_files_as_people_write_them(desk: Desk, tiny: Path) -> None:
    """With byte order marks, numbers in quotes, and templates in all places: packed, and read as the service does."""
    path = tiny / "generation_config.json"
    given = json.loads(path.read_text()) | {"do_sample": True, "temperature": "0.6", "top_p": "0.9"}
    path.write_text(json.dumps(given))
    for name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        (tiny / name).write_bytes(b"\xef\xbb\xbf" + (tiny / name).read_bytes())
    (tiny / "additional_chat_templates").mkdir()
    (tiny / "additional_chat_templates" / "tool_use.jinja").write_text("{{ messages[0].content }}{{ tools | tojson }}")
    (tiny / "chat_template.json").write_text('{"chat_template": "{% generation %}Hi{% endgeneration %}"}')
    code, _, err = desk.pack(tiny, "--tag", "mine:1")
    assert code == 0, err
    tokenizer = desk.models()["mine:1"] / "tokenizer"
    assert "chat_template" in PromptTokenizer(tokenizer).config
    assert Defaults.read(tokenizer) == Defaults(temperature=0.6, top_p=0.9)
    templates = Templates.read(tokenizer)
    assert templates == Templates.read(tiny)
    assert set(templates.sources) == {"default", "tool_use"}
    path.write_text(json.dumps(given | {"temperature": "warm"}))
    assert "generation_config.json cannot be used: temperature: " in desk.refused(tiny)


def test_a_base_model_without_a_template(desk: Desk, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", family="smollm")
    config = json.loads((base / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    for options in ((), ("--dry-run",)):
        assert "has neither a chat template nor Llama 3's control tokens" in desk.refused(base, *options)


def test_a_template_that_cannot_be_read(desk: Desk, tiny: Path) -> None:
    (tiny / "chat_template.jinja").write_text("{% if %}")
    assert "The checkpoint's chat template cannot be read" in desk.refused(tiny)


def test_a_template_that_refuses_every_chat(desk: Desk, tiny: Path) -> None:
    (tiny / "chat_template.jinja").write_text("{{ raise_exception('no chats') }}")
    for options in ((), ("--dry-run",)):
        assert "The checkpoint's chat template refused the messages: no chats" in desk.refused(tiny, *options)


def test_a_tokenizer_config_that_is_no_json(desk: Desk, tiny: Path) -> None:
    (tiny / "tokenizer_config.json").write_text("{")
    assert "tokenizer_config.json is not valid JSON" in desk.refused(tiny)


def test_help_is_fast(desk: Desk) -> None:
    """It imports nothing that takes long."""
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(desk.command("--help"), env=env, check=True, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "bento_trtllm" in imported
    assert not imported & {"bentoml", "google", "huggingface_hub", "jinja2", "numpy", "openvino", "tokenizers"}
    assert "--checkpoint DIR_OR_HF_ID" in done.stdout


def test_packs_a_hugging_face_id(desk: Desk, tiny: Path) -> None:
    (tiny / "original").mkdir()
    (tiny / "original" / "model.safetensors").write_bytes(b"the same weights in another format")
    (tiny / "pytorch_model.bin").write_bytes(b"and in another")
    (tiny / "additional_chat_templates").mkdir()
    (tiny / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools }}")
    with serve_hub({"meta-llama/Tiny": tiny}) as desk.environment["HF_ENDPOINT"]:
        code, out, err = desk.pack("meta-llama/Tiny")
        assert code == 0, err
        code, plan, err = desk.pack("meta-llama/Tiny", "--revision", COMMIT, "--dry-run")
        assert (code, json.loads(plan)["checkpoint"]["revision"]) == (0, COMMIT), err
        assert "has no revision nope on Hugging Face" in desk.refused("meta-llama/Tiny", "--revision", "nope")
    tag = out.split()[1]
    assert tag.startswith("tiny:")
    manifest = Manifest.read(desk.models()[tag])
    assert (manifest.source, manifest.revision, manifest.checksum) == ("meta-llama/Tiny", COMMIT, None)
    (snapshot,) = (desk.path / "huggingface").glob("hub/models--*/snapshots/*")
    assert not (snapshot / "original").exists() and not (snapshot / "pytorch_model.bin").exists()
    tokenizer = desk.models()[tag] / "tokenizer"
    assert not (tokenizer / "tokenizer.json").is_symlink()
    assert Templates.read(tokenizer).sources["tool_use"] == "{{ tools }}"
    # What is in the cache needs no network.
    desk.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    assert desk.pack("meta-llama/Tiny", "--dry-run")[0] == 0


def test_what_modelopt_says_is_downloaded_too(desk: Desk, tiny: Path) -> None:
    (tiny / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    with serve_hub({"nvidia/Tiny-FP4": tiny}) as desk.environment["HF_ENDPOINT"]:
        code, out, err = desk.pack("nvidia/Tiny-FP4")
    # After the download's progress.
    assert (code, out) == (2, "")
    assert "error: nvidia/Tiny-FP4 is quantised already (NVFP4, says hf_quant_config.json)" in err.splitlines()[-1]


def test_a_hugging_face_id_that_cannot_be_had(desk: Desk, tiny: Path) -> None:
    desk.environment["HF_TOKEN"] = secret = "hf_" + "s" * 34
    hub = {"meta-llama/Gated": (403, "GatedRepo"), "some/broken": (500, "Broken"), "some/denied": (403, "No")}
    with serve_hub(hub) as desk.environment["HF_ENDPOINT"]:
        gated = desk.refused("meta-llama/Gated")
        assert "accept its licence at https://huggingface.co/meta-llama/Gated and set HF_TOKEN" in gated
        missing = desk.refused("some/missing")
        assert "no such directory, and no such model on Hugging Face: some/missing (if private" in missing
        denied = desk.refused("some/denied")
        assert "Hugging Face refused some/denied (HTTP 403): set HF_TOKEN to a valid token" in denied
        assert "refused some/broken (HTTP 500): try again later" in desk.refused("some/broken")
        assert "not a Hugging Face id either: some/--x" in desk.refused("some/--x")
        assert secret not in gated + missing + denied
    desk.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    offline = desk.refused("some/model")
    assert "no such directory: some/model, and Hugging Face cannot be reached" in offline
    desk.environment["HF_HUB_OFFLINE"] = "1"
    assert desk.refused("some/model") == offline
