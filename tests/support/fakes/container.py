"""What NVIDIA's container has and this machine has not: a python3 with tensorrt_llm, trtllm-build, GPUs.

The stand-ins take what the real ones take (signatures of tensorrt_llm/models/llama/model.py, options of trtllm-build
from tests/contract), write files of the real names, and note every call. Nothing of ours is replaced.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from bento_trtllm.engines.tensorrt.releases import DEFAULT, RELEASES
from bento_trtllm.engines.tensorrt.versions import VERSIONS

HERE = Path(__file__).parent
OPTIONS = HERE.parents[1] / "contract" / "trtllm-build.json"

MODELS = """
import json, os, pathlib
def note(**call):
    with open(os.environ["FAKE_CALLS"], "a") as file:
        file.write(json.dumps(call) + "\\n")
def quant(q): return [q.quant_algo, q.kv_cache_quant_algo]
class LLaMAForCausalLM:
    {init}
    {from_hugging_face}
        {note_convert}
        model = cls(); model.mapping = mapping
        return model
    def save_checkpoint(self, output_dir, save_config=True):
        folder = pathlib.Path(output_dir)
        (folder / f"rank{{self.mapping.rank}}.safetensors").write_bytes(b"weights")
        if save_config:
            (folder / "config.json").write_text("{{}}")
    {quantize}
        note(call="quantize", third=quant({third}), **{rest})
        for rank in range(mapping.world_size):
            (pathlib.Path(output_dir) / f"rank{{rank}}.safetensors").write_bytes(b"weights")
        (pathlib.Path(output_dir) / "config.json").write_text("{{}}")
"""
OLD = {
    "init": "",
    "from_hugging_face": "@classmethod\n    def from_hugging_face(cls, hf_model_dir, dtype='float16', mapping=None, "
    "*, quantization, load_by_shard=False, load_model_on_cpu=False):",
    "note_convert": "note(call='convert', dir=hf_model_dir, dtype=dtype, rank=mapping.rank, quant=quant(quantization))",
    "quantize": "@classmethod\n    def quantize(cls, hf_model_dir, output_dir, quant_config, *, dtype='float16', "
    "mapping=None, calib_dataset='cnn_dailymail', calib_batches=512, calib_batch_size=1, "
    "random_seed=1234, tokenizer_max_seq_length=2048):",
    "third": "quant_config",
    "rest": "{'dtype': dtype, 'calib_batches': calib_batches, 'calib_dataset': calib_dataset}",
}
NEW = {
    "init": "",
    "from_hugging_face": "@classmethod\n    def from_hugging_face(cls, hf_model_or_dir, dtype='auto', mapping=None, "
    "quant_config=None, *, load_by_shard=False, load_model_on_cpu=False):",
    "note_convert": "note(call='convert', dir=hf_model_or_dir, dtype=dtype, rank=mapping.rank, "
    "quant=quant(quant_config))",
    "quantize": "@classmethod\n    def quantize(cls, hf_model_dir, output_dir, dtype='auto', mapping=None, "
    "quant_config=None, *, device='cuda', calib_dataset='cnn_dailymail', calib_batches=512, calib_batch_size=1, "
    "calib_max_seq_length=512, random_seed=1234, tokenizer_max_seq_length=2048):",
    "third": "quant_config",
    "rest": "{'dtype': dtype, 'calib_batches': calib_batches, 'calib_dataset': calib_dataset, 'device': device}",
}
BUILD = """#!{python}
import argparse, json, os, pathlib, sys, time
print("[TensorRT-LLM] a line of the build", flush=True)
if os.environ.get("FAKE_BUILD") == "fail":
    print("[TensorRT-LLM] [E] CUDA out of memory. Tried to allocate 2 GiB", flush=True)
    print("[TensorRT-LLM] bye", flush=True)
    sys.exit(3)
parser = argparse.ArgumentParser(allow_abbrev=False)
for name, choices in json.loads(pathlib.Path({options!r}).read_text())[{api!r}]["options"].items():
    parser.add_argument("--" + name, choices=choices)
options = parser.parse_args()
assert pathlib.Path(options.checkpoint_dir, "config.json").is_file()
with open(os.environ["FAKE_CALLS"], "a") as file:
    file.write(json.dumps(dict(call="build", **{{k: v for k, v in vars(options).items() if v}})) + "\\n")
if os.environ.get("FAKE_BUILD") == "hang":
    time.sleep(600)
folder = pathlib.Path(options.output_dir)
# trtllm-build's default, written where it runs.
pathlib.Path(options.output_timing_cache or "model.cache").write_bytes(b"measured")
for rank in range(int(options.workers)):
    (folder / f"rank{{rank}}.engine").write_bytes(b"engine of rank %d" % rank)
(folder / "config.json").write_text(json.dumps(dict(version={version!r})))
"""


class Container:
    """One container in a folder; `environment` is for a process of ours that runs inside."""

    def __init__(
        self, folder: Path, version: str = RELEASES[DEFAULT].tensorrt_llm, gpus: str = "NVIDIA H100 80GB HBM3:80:9.0"
    ) -> None:
        self.folder, self.calls_file = folder, folder / "calls"
        site, bin_ = folder / "site", folder / "bin"
        package = site / "tensorrt_llm"
        (package / "models").mkdir(parents=True)
        bin_.mkdir()
        old, nvfp4 = VERSIONS[version].conversion == "0.10.0", VERSIONS[version].nvfp4
        for name, text in {
            "__init__.py": "",
            "mapping.py": "class Mapping:\n    def __init__(self, world_size=1, rank=0, *, tp_size=1, pp_size=1):\n"
            "        assert world_size == tp_size * pp_size and 0 <= rank < world_size\n"
            "        self.world_size, self.rank = world_size, rank\n",
            "quantization.py": "import enum\nclass QuantAlgo(str, enum.Enum):\n    FP8 = 'FP8'\n"
            "    W4A16_AWQ = 'W4A16_AWQ'\n    INT8 = 'INT8'\n" + ("    NVFP4 = 'NVFP4'\n" if nvfp4 else ""),
            "models/__init__.py": MODELS.format(**(OLD if old else NEW)),
            "models/modeling_utils.py": "class QuantConfig:\n    def __init__(self, quant_algo=None, "
            "kv_cache_quant_algo=None):\n        self.quant_algo = quant_algo\n"
            "        self.kv_cache_quant_algo = kv_cache_quant_algo\n",
        }.items():
            (package / name).write_text(text)
        metadata = site / f"tensorrt_llm-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt-llm\nVersion: {version}\n")
        python = os.path.realpath(sys.executable)
        self._program(bin_ / "python3", f'#!/bin/sh\nPYTHONPATH="{site}" exec "{python}" "$@"\n')
        api = VERSIONS[version].built_with[-1]
        build = BUILD.format(python=python, options=str(OPTIONS), api=api, version=version)
        self._program(bin_ / "trtllm-build", build)
        self.environment = {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "PYTHONPATH": str(HERE),
            "FAKE_GPUS": gpus,
            "FAKE_CALLS": str(self.calls_file),
        }

    def _program(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def calls(self) -> list[dict[str, Any]]:
        """The calls so far, and forget them."""
        if not self.calls_file.exists():
            return []
        text = self.calls_file.read_text()
        self.calls_file.unlink()
        return [json.loads(line) for line in text.splitlines()]
