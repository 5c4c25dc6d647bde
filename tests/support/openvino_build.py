"""A checkpoint made an OpenVINO engine, without a pack around it."""

from pathlib import Path

from bento_trtllm.checkpoint.huggingface import find_checkpoint
from bento_trtllm.engines import make_engine
from bento_trtllm.engines.openvino.engine import OpenVINOBuild


def build(checkpoint: Path, precision: str, directory: Path) -> OpenVINOBuild:
    prepared = make_engine("openvino", precision=precision).prepare(find_checkpoint(str(checkpoint)))
    assert isinstance(prepared, OpenVINOBuild)
    directory.mkdir()
    prepared.write(directory, directory)
    return prepared
