"""Turns a Hugging Face checkpoint into TensorRT-LLM's own, or quantises it on the way.

`python3 convert.py MODEL CALL`, where MODEL is a class of tensorrt_llm.models, and CALL the JSON of a ConvertCall
(build.py). It runs as a process of its own, in the Python of NVIDIA's container: there is tensorrt_llm, the service's
environment has none, and the GPU's memory is free again for trtllm-build when it ends. So it stands alone: nothing of
ours is imported.

Calls and keywords:

    0.11.0  and all later: tensorrt_llm/models/llama/model.py and models/modeling_utils.py as read at 0.11.0 to 0.16.0
            and 1.3.0rc3: quant_config, device
    0.10.0  the same files at 0.10.0: from_hugging_face takes `quantization`, quantize takes it third, and no device

At 0.10.0 and 0.11.0 kv_cache_quant_algo is "fp8", no QuantAlgo: quantize hands it on as it is, and whatever does not
equal "fp8" (quantization/quantize_by_modelopt.py) becomes an INT8 cache.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main(name: str, text: str) -> None:
    call: dict[str, Any] = json.loads(text)
    from tensorrt_llm import models  # noqa: PLC0415
    from tensorrt_llm.mapping import Mapping  # noqa: PLC0415
    from tensorrt_llm.models.modeling_utils import QuantConfig  # noqa: PLC0415
    from tensorrt_llm.quantization import QuantAlgo  # noqa: PLC0415

    def mapping(rank: int) -> Any:
        return Mapping(world_size=tp * pp, rank=rank, tp_size=tp, pp_size=pp)

    architecture = getattr(models, name)
    tp, pp = call["tp_size"], call["pp_size"]
    source, output, dtype = call["checkpoint"], call["output"], call["dtype"]
    Path(output).mkdir(parents=True, exist_ok=True)
    cache = call["kv_cache_quant_algo"]
    quantization = QuantConfig(
        quant_algo=QuantAlgo[call["quant_algo"]] if call["quant_algo"] else None,
        kv_cache_quant_algo=QuantAlgo[cache] if cache and cache != "fp8" else cache,
    )
    if call["quant_algo"]:
        shared = {"dtype": dtype, "mapping": mapping(0)}
        shared |= {"calib_dataset": call["calib_dataset"], "calib_batches": call["calib_batches"]}
        if call["api"] == "0.10.0":
            architecture.quantize(source, output, quantization, **shared)
        else:
            architecture.quantize(source, output, quant_config=quantization, device="cuda", **shared)
        return
    keyword = "quantization" if call["api"] == "0.10.0" else "quant_config"
    for rank in range(tp * pp):
        print(f"converting rank {rank} of {tp * pp}", flush=True)
        model = architecture.from_hugging_face(
            source, dtype, mapping=mapping(rank), load_by_shard=call["load_by_shard"], **{keyword: quantization}
        )
        model.save_checkpoint(output, save_config=(rank == 0))
        del model


if __name__ == "__main__":
    main(*sys.argv[1:])
