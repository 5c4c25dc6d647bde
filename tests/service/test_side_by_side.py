"""`scripts/bench --checkpoint` as a whole: our service and the library alone are real, llama.cpp cannot be here."""

import argparse
import json
import stat
from pathlib import Path

import pytest

from benchmark import shapes, side_report

TINY = shapes.Shape(64, 96, 2, 4, 2, 16, vocab_size=700, max_position_embeddings=2048)
LINE = {"pp": 16, "tg": 4, "pl": 2, "t_pp": 0.5, "t_tg": 0.5, "t": 1.0, "speed_tg": 16.0}
# Both programs: the one writes the file that it is told to, the other a line of figures.
FAKE = f"""#!/bin/sh
case "$0" in *llama-quantize) cp "$1" "$2" ;; *) echo loading; echo '{json.dumps(LINE)}' ;; esac
"""


def test_a_checkpoint_is_measured_beside_the_library_and_llama_cpp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(shapes.SHAPES, "tiny", TINY)
    for name in ("llama-batched-bench", "llama-quantize"):
        (tmp_path / name).write_text(FAKE)
        (tmp_path / name).chmod(stat.S_IRWXU)
    results = tmp_path / "results.json"
    given = argparse.Namespace(
        checkpoint=tmp_path / "tiny",
        shape="tiny",
        precision=["int8"],
        streams=[2],
        lengths=[(16, 4)],
        repeats=2,
        llama_cpp=tmp_path / "llama-batched-bench",
        json=results,
    )
    said: list[str] = []
    assert side_report.main(given, said.append) == 0, said

    found = json.loads(results.read_text("utf-8"))
    (point,) = found["points"]
    assert point["batch"] == {"streams": 2, "prompt": 16, "tokens": 4, "vocabulary": 700 - 256}
    rounds = [point["ours"], *point["library"].values(), point["llama_cpp"]]
    assert [len(each) for each in rounds] == [2] * 5
    assert all(once["tok_s"] > 0 and once["first_s"] > 0 for each in rounds for once in each)
    (rest,) = found["rests"]
    assert rest["memory_mb"] > rest["engine_mb"] > rest["weights_mb"] > 0
    assert rest["first_token_s"] > rest["load_s"] > 0
    printed = capsys.readouterr().out
    assert "int8" in printed and "16/4" in printed
    assert "tiny; " in printed
