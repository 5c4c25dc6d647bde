"""Whether this machine can run a packed engine: asked at start, before Triton says it in its own words."""

from bento_trtllm.engines.tensorrt import gpus
from bento_trtllm.engines.tensorrt.python import TensorRTPython
from bento_trtllm.engines.tensorrt.releases import find_release, same_version
from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Manifest


def check(manifest: Manifest) -> None:
    """Raise EngineError, in one sentence, where the engine's GPU or TensorRT-LLM is not this machine's.

    A TensorRT engine is bound to the version that built it and to the compute capability that it was built for.
    """
    built = manifest.tensorrt
    if built is None:
        return
    again = (
        f"pack it again with scripts/in_container --release {built.release} python3 pack_model.py --engine tensorrt "
        f"--release {built.release} --checkpoint {manifest.source}"
    )
    image = find_release(built.release).image
    version = TensorRTPython.find().version()
    if version is None:
        raise EngineError(
            f"the engine needs TensorRT-LLM {built.tensorrt_llm}, which is not installed here: serve it in {image}, "
            f"with scripts/in_container --release {built.release} bentoml serve"
        )
    if not same_version(built.tensorrt_llm, version):
        raise EngineError(
            f"the engine was built by TensorRT-LLM {built.tensorrt_llm} and {version} is installed here: serve it in "
            f"{image}, or pack it again with this release"
        )
    ranks = built.tp_size * built.pp_size
    found = gpus.installed()
    if len(found) < ranks:
        raise EngineError(
            f"the engine takes {ranks} GPUs and {len(found)} can be used here: give the service more, or {again} "
            "and a smaller --tp or --pp"
        )
    for gpu in found[:ranks]:
        if gpu.sm != built.compute_capability:
            raise EngineError(
                f"the engine was built for {built.gpu} (compute capability {built.compute_capability}) and this is a "
                f"{gpu.name} ({gpu.sm}): {again} on this machine"
            )
