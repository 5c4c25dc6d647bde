"""The command line of pack_model.py: subcommands made of the engines' options, and what it once was."""

import pytest

from bento_trtllm.engines import ENGINES, options_of
from bento_trtllm.errors import SettingsError
from bento_trtllm.packing.command_line import Command, parse


def refused(*arguments: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("once", "now"),
    [
        ("--engine openvino --checkpoint DIR", "openvino --checkpoint DIR"),
        ("--engine=openvino --checkpoint=a/b --revision main", "openvino --checkpoint a/b --revision main"),
        ("--checkpoint DIR --precision int4 --engine openvino", "openvino --checkpoint DIR --precision=int4"),
        ("--engine openvino --checkpoint DIR --tag a:1 --force", "openvino --checkpoint DIR --tag a:1 --force"),
        (
            "--engine tensorrt --checkpoint DIR --preset throughput --gpu L40S --dry-run",
            "tensorrt --checkpoint DIR --preset throughput --gpu L40S --dry-run",
        ),
        (
            "--engine tensorrt --checkpoint a/b --tp 2 --pp 2 --quantization fp8",
            "tensorrt --checkpoint a/b --tp-size 2 --pp-size 2 --quantization fp8",
        ),
        ("--check a:1", "check a:1"),
        ("--check=a:1", "check a:1"),
    ],
)
def test_the_command_line_of_before_means_the_same(once: str, now: str) -> None:
    assert vars(parse(once.split())) == vars(parse(now.split())) != vars(Command())


def test_every_option_of_before() -> None:
    given = {
        "release": "24.06", "preset": "latency", "dtype": "float16", "quantization": "fp8", "kv_cache_dtype": "fp8",
        "calibration_dataset": "pileval", "calibration_samples": 8, "tp_size": 2, "pp_size": 4, "max_batch_size": 5,
        "max_input_len": 6, "max_seq_len": 7, "max_num_tokens": 9, "gpu": "L4",
    }  # fmt: skip
    names = {name: {"tp_size": "tp", "pp_size": "pp"}.get(name, name).replace("_", "-") for name in given}
    options = [word for name, value in given.items() for word in (f"--{names[name]}", str(value))]
    command = parse(["--engine", "tensorrt", "--checkpoint", "DIR", *options])
    assert (command.engine, command.options) == ("tensorrt", given)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_not_given_is_no_option(engine: str) -> None:
    """A preset, or the engine, says what it is."""
    command = parse([engine, "--checkpoint", "DIR"])
    assert command.packing
    assert (command.engine, command.options, command.packing.checkpoint) == (engine, {}, "DIR")
    assert (command.packing.force, command.packing.dry_run, command.packing.tag) == (False, False, None)


@pytest.mark.parametrize("value", ["a,b", '"a"', "[a]", '{"a": 1}', "/a b/é=x", "null", "007"])
def test_a_value_is_as_it_was_given(value: str) -> None:
    command = parse(["openvino", "--checkpoint", value, "--tag", value])
    assert command.packing and command.packing.checkpoint == command.packing.tag == value


def test_no_environment_variable_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ENGINES, "check", "checkpoint", "tag", "force", "precision"):
        monkeypatch.setenv(name.upper(), "junk")
    assert parse(["check", "a:1"]) == Command(check="a:1")
    assert parse(["openvino", "--checkpoint", "DIR"]).options == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "say what to pack for: pack_model.py openvino or tensorrt or pytorch --checkpoint DIR_OR_HF_ID, or check"),
        ("openvino", "packing needs --checkpoint"),
        ("openvino --checkpoint", "argument --checkpoint: expected one argument"),
        ("check", "the following arguments are required: TAG"),
        ("--check a --checkpoint b", "--check takes the tag of a pack, and no --checkpoint"),
        ("--check a --engine openvino", "--check takes the tag of a pack, and no --engine"),
        ("--engine vllm --checkpoint b", "invalid choice: 'vllm' (choose from"),
        (
            "openvino --checkpoint a --precision f8",
            "--precision f8 cannot be used: input should be 'int8', 'int4', 'f16', 'bf16' or 'f32'",
        ),
        ("tensorrt --checkpoint a --tp two", "--tp-size two cannot be used: input should be a valid integer"),
        ("tensorrt --checkpoint a --tp 0", "--tp-size 0 cannot be used: input should be greater than or equal to 1"),
        ("tensorrt --checkpoint a --precision f16", "--precision is for openvino: leave it out with tensorrt"),
        ("openvino --checkpoint a --tp 2", "--tp is for tensorrt: leave it out with openvino"),
        ("openvino --checkpoint a --max-seq-len 2", "--max-seq-len is for tensorrt: leave it out with openvino"),
        ("openvino --checkpoint a --nonsense", "unrecognized arguments: --nonsense"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments: str, sentence: str) -> None:
    assert sentence in refused(*arguments.split())


@pytest.mark.parametrize("engine", ENGINES)
def test_help_tells_every_option(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([engine, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for name in ("checkpoint", "tag", "dry-run", *options_of(engine).model_fields):
        assert f"--{name.replace('_', '-')}" in shown
