"""The TensorRT engine: built by TensorRT-LLM for one kind of GPU, run by Triton's C++ backend `tensorrtllm`."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from bento_trtllm.checkpoint import Checkpoint, LlamaConfig
from bento_trtllm.engines import gpus, sizing
from bento_trtllm.engines.base import Engine, Plan
from bento_trtllm.engines.dialect import DIALECTS
from bento_trtllm.engines.gpus import GPU
from bento_trtllm.engines.releases import Release, find_release, same_version
from bento_trtllm.engines.tensorrt_build import Builder, ConvertCall, build_argv
from bento_trtllm.engines.tensorrt_python import TensorRTPython
from bento_trtllm.engines.tensorrt_settings import TensorRTSettings
from bento_trtllm.errors import CheckpointError, EngineError
from bento_trtllm.manifest import TensorRTBuild

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

FP8_CAPABILITY = (8, 9)
BFLOAT16_CAPABILITY = (8, 0)
OUTPUT_LEN_0_10 = 1024
"""trtllm-build's default for --max_output_len in 0.10.0, the answer's part of a sequence."""
PLAN_CHECKPOINT, PLAN_ENGINE = "WORKSPACE/checkpoint", "WORKSPACE/engine"


class TensorRTEngine(Engine):
    """Writes `rank<N>.engine` and `config.json`. Its precision is its quantization, or else its dtype."""

    name = "tensorrt"
    gpu = True
    precisions = ("bfloat16", "float16", "fp8", "int4_awq")

    def __init__(self, settings: TensorRTSettings, workspace: Path, gpu: str | None = None) -> None:
        """`workspace` keeps finished steps; `gpu` names one to plan for rather than this machine's.

        Raises EngineError for a release or a GPU that is not in its table.
        """
        super().__init__(settings.dtype if settings.quantization == "none" else settings.quantization)
        self.settings = settings
        self.workspace = workspace
        self.release: Release = find_release(settings.release)
        self.dialect = DIALECTS[self.release.dialect]
        self.world_size = settings.world_size
        self._named = gpus.named(gpu) if gpu else None

    @cached_property
    def _gpus(self) -> list[GPU]:
        """One for each rank, or none where there is no GPU to plan for."""
        if self._named:
            return [self._named] * self.world_size
        return gpus.installed()[: self.world_size]

    def check(self, checkpoint: Checkpoint) -> None:
        if fault := self._fault(checkpoint):
            raise CheckpointError(f"{checkpoint.source} {fault}")
        if fault := _division_fault(checkpoint.config, self.settings):
            raise EngineError(f"{checkpoint.source} {fault}")
        for gpu in self._gpus:
            self._check_gpu(checkpoint, gpu)

    def _fault(self, checkpoint: Checkpoint) -> str | None:
        config = checkpoint.config
        if config.rope_type not in ("default", "llama3"):
            return f"scales its rotary embedding by {config.rope_type}: only Llama 3's own scaling was planned for"
        if config.rope_type == "llama3" and not self.release.scaled_rope:
            return (
                f"scales its rotary embedding as Llama 3.1 and later do, which TensorRT-LLM "
                f"{self.release.tensorrt_llm} does not know: take a later --release"
            )
        if config.quantization_config is not None:
            method = config.quantization_config.get("quant_method", "by an unknown method")
            return f"is quantised already ({method}): pack the original checkpoint, with --quantization"
        return None

    def _check_gpu(self, checkpoint: Checkpoint, gpu: GPU) -> None:
        settings, config = self._fit(checkpoint), checkpoint.config
        if settings.quantization == "fp8" and gpu.capability < FP8_CAPABILITY:
            raise EngineError(
                f"FP8 needs compute capability 8.9 (Ada, Hopper) and {gpu.name} has {gpu.sm}: "
                "take --quantization int4_awq or none"
            )
        if settings.kv_cache_dtype == "fp8" and gpu.capability < FP8_CAPABILITY:
            raise EngineError(
                f"an FP8 KV cache needs compute capability 8.9 and {gpu.name} has {gpu.sm}: take --kv-cache-dtype auto"
            )
        if settings.dtype == "bfloat16" and gpu.capability < BFLOAT16_CAPABILITY:
            raise EngineError(
                f"bfloat16 needs compute capability 8.0 and {gpu.name} has {gpu.sm}: take --dtype float16"
            )
        if gpu.capability > self.release.newest_capability:
            raise EngineError(
                f"{gpu.name} (compute capability {gpu.sm}) is newer than release {self.release.tag} "
                f"(CUDA {self.release.cuda}): take a later --release"
            )
        size = sizing.estimate(config, settings)
        tokens = size.kv_tokens(gpu, settings.kv_cache_free_gpu_mem_fraction)
        longest = min(self.context_length(checkpoint), settings.max_attention_window_size or 1 << 62)
        needed = f"{size.weights / 1e9:.1f} GB of weights and {size.reserve / 1e9:.1f} GB of reserve a GPU"
        if tokens < longest:
            raise EngineError(
                f"{gpu.name} with {gpu.memory / 1e9:.1f} GB is too small: beside {needed}, the KV cache would hold "
                f"{tokens:,} tokens and one request may take {longest:,}: take more GPUs (--tp), a --quantization, "
                "a smaller --max-num-tokens or --max-seq-len"
            )
        block = self.release.tokens_per_block
        if settings.max_batch_size * block > tokens:
            raise EngineError(
                f"max_batch_size {settings.max_batch_size} is beyond the KV cache: at {block} tokens a block, "
                f"{gpu.name} has room for {tokens // block} requests: lower --max-batch-size"
            )

    def plan(self, checkpoint: Checkpoint) -> Plan:
        settings = self._fit(checkpoint)
        size = sizing.estimate(checkpoint.config, settings)
        share = size.engine // self.world_size
        call = ConvertCall.of(checkpoint, settings, self.release, PLAN_CHECKPOINT)
        memory: list[JsonValue] = [
            {
                "gpu": gpu.name,
                "compute_capability": gpu.sm,
                "bytes": gpu.memory,
                "kv_cache_tokens": size.kv_tokens(gpu, settings.kv_cache_free_gpu_mem_fraction),
            }
            for gpu in self._gpus[:1]
        ]
        return {
            "name": self.name,
            "precision": self.precision,
            "files": {f"rank{rank}.engine": share for rank in range(self.world_size)},
            "settings": {
                **settings.model_dump(mode="json"),
                "image": self.release.image,
                "tensorrt_llm": self.release.tensorrt_llm,
                "context_length": self.context_length(checkpoint),
                "convert": vars(call),
                "build": list[JsonValue](build_argv(settings, self.release, PLAN_CHECKPOINT, PLAN_ENGINE)),
                "estimate": {
                    "weights_bytes": size.weights,
                    "reserve_bytes": size.reserve,
                    "kv_bytes_per_token": size.kv_bytes_per_token,
                    "engine_bytes": size.engine,
                },
                "memory": memory[0] if memory else None,
            },
        }

    def build(self, checkpoint: Checkpoint, directory: Path) -> None:
        builder = Builder(self.workspace, TensorRTPython.find())
        builder.build(checkpoint, self._fit(checkpoint), self.release, self._gpus[0].name, directory)

    def check_machine(self) -> None:
        version = TensorRTPython.find().version()
        command = f"scripts/in_container --release {self.release.tag} python3 pack_model.py --engine tensorrt …"
        if version is None:
            raise EngineError(f"tensorrt_llm is not installed here: run inside NVIDIA's container, with {command}")
        if not same_version(self.release.tensorrt_llm, version):
            raise EngineError(
                f"release {self.release.tag} has TensorRT-LLM {self.release.tensorrt_llm} and {version} is installed "
                f"here: choose its release with --release, or run {command}"
            )
        if self._named:
            raise EngineError("--gpu is for --dry-run: an engine is built on the GPU that it is for")
        if len(self._gpus) < self.world_size:
            raise EngineError(
                f"the engine takes {self.world_size} GPUs and {len(self._gpus)} can be used here: give the container "
                "more, or lower --tp and --pp"
            )

    def context_length(self, checkpoint: Checkpoint) -> int:
        """What trtllm-build makes of max_seq_len: given, or deduced from the model, or (0.10.0) input plus output."""
        settings, context = self._fit(checkpoint), checkpoint.config.max_position_embeddings
        if settings.max_seq_len is not None:
            return settings.max_seq_len
        return context if self.release.max_seq_len_flag else min(settings.max_input_len + OUTPUT_LEN_0_10, context)

    def _fit(self, checkpoint: Checkpoint) -> TensorRTSettings:
        """The settings with lengths that the model's context can hold."""
        context, settings = checkpoint.config.max_position_embeddings, self.settings
        longest = None if settings.max_seq_len is None else min(settings.max_seq_len, context)
        shortest = min(settings.max_input_len, (longest or context) - 1)
        return settings.model_copy(update={"max_seq_len": longest, "max_input_len": shortest})

    def describe(self, checkpoint: Checkpoint) -> TensorRTBuild:
        gpu, settings = self._gpus[0], self._fit(checkpoint)
        return TensorRTBuild(
            release=self.release.tag,
            tensorrt_llm=self.release.tensorrt_llm,
            gpu=gpu.name,
            compute_capability=gpu.sm,
            tp_size=settings.tp_size,
            pp_size=settings.pp_size,
            preset=settings.preset,
            dtype=settings.dtype,
            quantization=settings.quantization,
            kv_cache_dtype=settings.kv_cache_dtype,
            max_batch_size=settings.max_batch_size,
            max_input_len=settings.max_input_len,
            max_seq_len=self.context_length(checkpoint),
            max_num_tokens=settings.max_num_tokens,
        )

    def model_config(self, checkpoint: Checkpoint) -> "ModelConfig":
        # Imported here: --help answers at once.
        from tritonclient.grpc import model_config_pb2 as pb  # noqa: PLC0415

        from bento_trtllm.engines import contract  # noqa: PLC0415

        policy = pb.ModelQueuePolicy(max_queue_size=0) if self.dialect.queue_size else None
        config = pb.ModelConfig(
            name="tensorrt_llm",
            backend="tensorrtllm",
            max_batch_size=contract.MAX_BATCH_SIZE,
            input=[*contract.REQUIRED, *contract.SAMPLING, *contract.CONTROL],
            output=contract.OUTPUTS,
            parameters=contract.parameters(self.settings.parameters()),
            model_transaction_policy=pb.ModelTransactionPolicy(decoupled=True),
            # In-flight batching is the engine's: Triton hands over what has come, at once.
            dynamic_batching=pb.ModelDynamicBatching(
                preferred_batch_size=[contract.MAX_BATCH_SIZE],
                max_queue_delay_microseconds=0,
                default_queue_policy=policy,
            ),
            # As upstream has it: the backend places the engine's ranks on GPUs by itself.
            instance_group=[pb.ModelInstanceGroup(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)],
        )
        return self.dialect.adapt(config)

    def model_sources(self) -> list[Path]:
        return []

    def versions(self) -> dict[str, str]:
        return {"tensorrt_llm": self.release.tensorrt_llm}


def _division_fault(config: LlamaConfig, settings: TensorRTSettings) -> str | None:
    """Why the model cannot be shared out over that many GPUs, or cut into AWQ's groups; None if it can."""
    tp, pp = settings.tp_size, settings.pp_size
    heads, kv_heads, inner = config.num_attention_heads, config.num_key_value_heads, config.intermediate_size
    if heads % tp or inner % tp or (kv_heads % tp and tp % kv_heads):
        fitting = [n for n in range(1, heads + 1) if not (heads % n or inner % n or (kv_heads % n and n % kv_heads))]
        return (
            f"has {heads} attention heads, {kv_heads} KV heads and an inner size of {inner}, which {tp} GPUs cannot "
            f"share: choose --tp from {', '.join(map(str, fitting))}"
        )
    if config.num_hidden_layers % pp:
        fitting = [n for n in range(1, config.num_hidden_layers + 1) if not config.num_hidden_layers % n]
        return (
            f"has {config.num_hidden_layers} layers, which a pipeline of {pp} cannot share evenly: choose --pp from "
            f"{', '.join(map(str, fitting))}"
        )
    rows = (config.hidden_size, heads * config.head_dim // tp, inner // tp)
    if settings.quantization == "int4_awq" and (odd := [row for row in rows if row % sizing.AWQ_GROUP]):
        return (
            f"has rows of {odd[0]} weights a GPU, and INT4-AWQ quantises in groups of {sizing.AWQ_GROUP}: take "
            "another --quantization or --tp"
        )
    return None
