"""The PyTorch engine as it runs: our Triton model on the TensorRT-LLM of NVIDIA's container."""

from collections.abc import Mapping
from dataclasses import replace

from bento_trtllm.engines.pytorch import releases
from bento_trtllm.engines.pytorch.fit import capability_fault
from bento_trtllm.engines.pytorch.weights import QUANTIZATIONS
from bento_trtllm.engines.runtime import Runtime
from bento_trtllm.engines.tensorrt import gpus
from bento_trtllm.engines.tensorrt.python import TensorRTPython
from bento_trtllm.errors import EngineError
from bento_trtllm.triton.process.launch import Launch, Launcher, Start, tritonserver


class PyTorchRuntime(Runtime):
    """Bound to no build: any of the containers that have what our model asks of TensorRT-LLM will do."""

    gpu = True
    requested = ("output_ids",)
    told = ("num_cached_tokens",)
    # _apply_min_length_penalty of TorchSampler, penaltyKernels.cu of TRTLLMSampler (1.3.0rc3).
    bans_first_end_only = True

    @property
    def launcher(self) -> Launcher:
        """One Triton for all GPUs: TensorRT-LLM starts a process for each by itself."""
        return _spawning

    @property
    def _gpus(self) -> int:
        options = self.manifest.options
        return int(options.get("tp-size", "1")) * int(options.get("pp-size", "1"))

    def check_machine(self) -> None:
        """Asked at each start, before TensorRT-LLM says it in its own words."""
        tag = self.manifest.options.get("release", releases.FIRST)
        image = releases.find(tag).image
        version = TensorRTPython.find().version()
        command = f"scripts/in_container --release {tag} bentoml serve"
        if version is None:
            raise EngineError(
                f"the engine needs TensorRT-LLM, which is not installed here: serve it in {image}, with {command}"
            )
        if not releases.known(version):
            served = sorted({release.tensorrt_llm for release in releases.SERVING.values()})
            raise EngineError(
                f"the engine runs with TensorRT-LLM {', '.join(served)}, and {version} is installed here: serve it in "
                f"{image}, with {command}"
            )
        found = gpus.installed()
        if len(found) < self._gpus:
            raise EngineError(
                f"the engine takes {self._gpus} GPUs and {len(found)} can be used here: give the service more, or pack "
                "it again with a smaller --tp or --pp"
            )
        precision, fp8_cache = self.manifest.precision, self.manifest.options.get("kv-cache-dtype") == "fp8"
        quantization = precision if precision in QUANTIZATIONS.values() else "none"
        for gpu in found[: self._gpus]:
            if fault := capability_fault(quantization, fp8_cache, gpu):
                raise EngineError(fault)

    def longest_prompt(self, parameters: Mapping[str, str]) -> int:
        """Without chunked prefill a prompt fits one step, or is refused (_check_arguments in llmapi/llm.py)."""
        longest = super().longest_prompt(parameters)
        if parameters["enable_chunked_context"] == "true":
            return longest
        return min(longest, int(parameters["max_num_tokens"]))


def _spawning(start: Start) -> Launch:
    """TensorRT-LLM spawns its workers with MPI, which Open MPI grants no isolated process."""
    launch = tritonserver(start)
    return replace(launch, env={name: value for name, value in launch.env.items() if "singleton_isolated" not in name})
