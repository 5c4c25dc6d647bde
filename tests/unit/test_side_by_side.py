"""What scripts/bench compares the OpenVINO engine with: the same weights, counted in the same way."""

import struct
import sys
from pathlib import Path

import pytest

from benchmark import gguf, llama_cpp, shapes, sides
from benchmark.library import Batch, Timing, prompts, words
from benchmark.main import main
from benchmark.service import BenchError
from bento_trtllm.checkpoint.checkpoint import Checkpoint, read_checkpoint

SMALL = shapes.Shape(64, 96, 2, 4, 2, 16, vocab_size=700, max_position_embeddings=256)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes.SHAPES, "small", SMALL)
        path = shapes.write("small", tmp_path_factory.mktemp("shape"))
    return read_checkpoint(path, str(path))


def test_a_shapes_checkpoint_has_weights_only_for_tokens_that_are_text(checkpoint: Checkpoint) -> None:
    rows = checkpoint.tensors["model.embed_tokens.weight"].open()
    likely = [i for i, row in enumerate(rows) if row.any()]
    assert likely == [*range(256, 700 - 256)]
    assert not set(likely) & {*checkpoint.eos_ids}
    assert checkpoint.config.head_dim == 16 and checkpoint.config.tie_word_embeddings


def test_llama_cpps_file_has_every_tensor_where_it_says(checkpoint: Checkpoint, tmp_path: Path) -> None:
    gguf.write(checkpoint, tmp_path / "small.gguf")
    data = (tmp_path / "small.gguf").read_bytes()
    magic, edition, tensors, _ = struct.unpack_from("<4sIQQ", data)
    assert (magic, edition, tensors) == (b"GGUF", 3, len(checkpoint.tensors))
    up = checkpoint.tensors["model.layers.1.mlp.up_proj.weight"].open()
    name = b"blk.1.ffn_up.weight"
    at = data.index(name) + len(name)
    dimensions, width, height, kind, offset = struct.unpack_from("<IQQIQ", data, at)
    assert (dimensions, width, height, kind) == (2, 64, 96, 1)
    # The last description is followed by the tensors, aligned; all of them end the file.
    sizes = (t.nbytes * (2 if len(t.shape) == 1 else 1) for t in checkpoint.tensors.values())
    begin = len(data) - sum(-(-size // 32) * 32 for size in sizes)
    assert begin % 32 == 0
    assert data[begin + offset : begin + offset + up.nbytes] == up.tobytes()


def test_streams_are_counted_from_their_own_first_token() -> None:
    """Two answers of 11 tokens: 10 in 1 s, and 10 in 2 s."""
    timing = Timing.of(11, [1.0, 2.0], [2.0, 4.0])
    assert timing == Timing(tok_s=22 / 4, decode_tok_s=15.0, first_s=2.0)
    assert Timing.of(11, [1.0, 2.0], [1.0, 4.0]) == Timing(tok_s=22 / 4, decode_tok_s=5.0, first_s=2.0)  # one at once


def test_llama_cpps_line_is_read_as_ours_are_counted() -> None:
    line = {"pp": 128, "tg": 64, "pl": 8, "t_pp": 2.0, "t_tg": 3.2, "t": 5.2, "speed_tg": 160.0}
    timing = llama_cpp._timing(line)
    assert (timing.tok_s, timing.decode_tok_s, timing.first_s) == pytest.approx((512 / 5.2, 160.0, 2.05))


def test_prompts_differ_and_are_as_long_as_asked_for() -> None:
    asked = prompts(Batch(3, 40, 8))
    assert [len(ids) for ids in asked] == [40] * 3
    assert len({tuple(ids) for ids in asked}) == 3


def test_prompts_have_ordinary_tokens_of_a_small_vocabulary_too() -> None:
    ids = prompts(Batch(2, 40, 8, words(700)))[0]
    assert min(ids) >= 256 and max(ids) < 700 - 256 and len({*ids}) == 40
    assert words(128_256) == Batch(1, 1, 1).vocabulary
    with pytest.raises(BenchError, match="a vocabulary of 500 tokens is too small: 557 are needed"):
        words(500)


def test_the_best_of_the_librarys_settings_is_what_counts() -> None:
    ours, slow, fast = Timing(90, 95, 0.2), Timing(80, 120, 0.1), Timing(100, 100, 0.3)
    point = sides.Point("int8", Batch(8, 128, 64), [ours], {"a": [slow], "b": [fast]})
    (row,) = sides.rows(sides.Sides([point]))
    assert row == ("int8", "128/64", "8", "90", "100", "0.90", "95", "120", "0.79", "200", "100", *["–"] * 5)


def test_llama_cpp_is_beside_it_in_the_middle_of_its_rounds() -> None:
    ours, its = Timing(90, 120, 0.2), [Timing(50, 70, 0.4), Timing(60, 80, 0.5), Timing(10, 20, 9.0)]
    point = sides.Point("int8", Batch(8, 128, 64), [ours], {"a": [ours]}, its)
    (row,) = sides.rows(sides.Sides([point]))
    assert len(row) == len(sides.HEAD)
    assert row[11:] == ("50", "1.80", "70", "1.71", "500")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shape", "llama-3.2-1b"], "--shape writes a checkpoint: name its directory by --checkpoint"),
        (["--checkpoint", "x"], "--checkpoint goes with --engine openvino"),
        (["--engine", "openvino", "--checkpoint", "x", "--docs"], "--checkpoint goes with --json alone"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/bench", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
