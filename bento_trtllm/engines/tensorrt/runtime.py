"""The TensorRT engine as it runs: Triton's C++ backend on the GPUs and with the TensorRT-LLM that it was built for."""

from collections.abc import Mapping, Sequence

from bento_trtllm.config import Settings
from bento_trtllm.engines.runtime import Runtime
from bento_trtllm.engines.tensorrt import gpus
from bento_trtllm.engines.tensorrt.provenance import Provenance
from bento_trtllm.engines.tensorrt.python import TensorRTPython
from bento_trtllm.engines.tensorrt.releases import find_release, same_version
from bento_trtllm.engines.tensorrt.settings import scheduler_fault
from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Manifest


class TensorRTRuntime(Runtime):
    """Bound to the version that built it, and to the compute capability that it was built for."""

    gpu = True
    # The C++ backend throws for each response of a request that does not name both (fillTritonResponse in
    # model_instance_state.cc, 0.10.0 to 1.3.0rc3), and the engine goes on computing for nobody.
    requested = ("output_ids", "sequence_length")
    # penaltyKernels.cu, 0.10.0 to 1.3.
    bans_first_end_only = True

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self.built = Provenance.model_validate(manifest.build)

    @property
    def ranks(self) -> int:
        return self.built.tp_size * self.built.pp_size

    def check_machine(self) -> None:
        """Asked at each start, before Triton says it in its own words."""
        built = self.built
        again = (
            f"pack it again with scripts/in_container --release {built.release} python3 pack_model.py "
            f"tensorrt --release {built.release} --checkpoint {self.manifest.source}"
        )
        image = find_release(built.release).image
        version = TensorRTPython.find().version()
        if version is None:
            raise EngineError(
                f"the engine needs TensorRT-LLM {built.tensorrt_llm}, which is not installed here: serve it in "
                f"{image}, with scripts/in_container --release {built.release} bentoml serve"
            )
        if not same_version(built.tensorrt_llm, version):
            raise EngineError(
                f"the engine was built by TensorRT-LLM {built.tensorrt_llm} and {version} is installed here: serve it "
                f"in {image}, or pack it again with this release"
            )
        found = gpus.installed()
        if len(found) < self.ranks:
            raise EngineError(
                f"the engine takes {self.ranks} GPUs and {len(found)} can be used here: give the service more, or "
                f"{again} and a smaller --tp or --pp"
            )
        for gpu in found[: self.ranks]:
            if gpu.sm != built.compute_capability:
                raise EngineError(
                    f"the engine was built for {built.gpu} (compute capability {built.compute_capability}) and this is "
                    f"a {gpu.name} ({gpu.sm}): {again} on this machine"
                )

    def parameters(self, settings: Settings, packed: Mapping[str, str], beside: Sequence[str] = ()) -> dict[str, str]:
        parameters = super().parameters(settings, packed, beside)
        if fault := scheduler_fault(parameters["batch_scheduler_policy"], _chunked(parameters)):
            raise EngineError(fault)
        return parameters

    def longest_prompt(self, parameters: Mapping[str, str]) -> int:
        """An engine that does not split prompts takes no more than fit one step (trtGptModel.h, 1.3.0rc3)."""
        longest = super().longest_prompt(parameters)
        return longest if _chunked(parameters) else min(longest, self.built.max_num_tokens)


def _chunked(parameters: Mapping[str, str]) -> bool:
    return parameters.get("enable_chunked_context") == "true"
