"""The TensorRT engine: built by TensorRT-LLM for one kind of GPU, run by Triton's C++ backend `tensorrtllm`."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from pydantic import JsonValue
from tritonclient.grpc import model_config_pb2 as pb
from typing_extensions import Self

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.engines.base import Build, Engine, ManifestPart, Plan, weights_fault
from bento_trtllm.engines.tensorrt import gpus, guided, sizing
from bento_trtllm.engines.tensorrt.build import MODELS, Builder, ConvertCall, build_argv, timing_argv
from bento_trtllm.engines.tensorrt.calibration import dataset_fault
from bento_trtllm.engines.tensorrt.fit import division_fault, gpu_fault, quantization_fault
from bento_trtllm.engines.tensorrt.gpus import GPU
from bento_trtllm.engines.tensorrt.provenance import Provenance
from bento_trtllm.engines.tensorrt.python import TensorRTPython
from bento_trtllm.engines.tensorrt.releases import Release, find_release, same_version
from bento_trtllm.engines.tensorrt.settings import TensorRTSettings
from bento_trtllm.errors import CheckpointError, EngineError
from bento_trtllm.triton.process.ranks import launch_plan
from bento_trtllm.triton.wire import tensors as contract
from bento_trtllm.triton.wire.dialects import DIALECTS

NAME = "tensorrt"
OUTPUT_LEN_0_10 = 1024
"""trtllm-build's default for --max_output_len in 0.10.0, the answer's part of a sequence."""
PLAN_CHECKPOINT, PLAN_ENGINE = "WORKSPACE/checkpoint", "WORKSPACE/engine"
PLAN_TIMING = ("WORKSPACE/timing.cache", "WORKSPACE/engine.cache")


class TensorRTEngine(Engine):
    """Writes `rank<N>.engine` and `config.json`."""

    name = NAME

    def __init__(self, settings: TensorRTSettings) -> None:
        """Raises EngineError for a release or a GPU that is not in its table."""
        self.settings = settings
        self.release: Release = find_release(settings.release)
        self._named = gpus.named(settings.gpu) if settings.gpu else None

    @classmethod
    def make(cls, values: Mapping[str, object]) -> Self:
        return cls(TensorRTSettings.make(**values))

    @cached_property
    def _gpus(self) -> list[GPU]:
        """One for each rank, or none where there is no GPU to plan for."""
        if self._named:
            return [self._named] * self.settings.world_size
        return gpus.installed()[: self.settings.world_size]

    def prepare(self, checkpoint: Checkpoint) -> "TensorRTBuild":
        if fault := self._fault(checkpoint):
            raise CheckpointError(f"{checkpoint.source} {fault}")
        if fault := quantization_fault(self.settings, self.release) or dataset_fault(self.settings, self.release):
            raise EngineError(fault)
        if fault := division_fault(checkpoint.config, self.settings):
            raise EngineError(f"{checkpoint.source} {fault}")
        build = TensorRTBuild(checkpoint, _fit(self.settings, checkpoint), self.release, self._gpus)
        for gpu in self._gpus:
            if fault := gpu_fault(checkpoint.config, build.settings, build.context_length, gpu):
                raise EngineError(fault)
        return build

    def _fault(self, checkpoint: Checkpoint) -> str | None:
        config = checkpoint.config
        if config.architecture not in MODELS:
            return f"is of the architecture {config.architecture}, which cannot be packed for TensorRT"
        if config.rope_type not in ("default", "llama3"):
            return f"scales its rotary embedding by {config.rope_type}: only Llama 3's own scaling can be packed"
        if config.rope_type == "llama3" and not self.release.version.scaled_rope:
            return (
                f"scales its rotary embedding as Llama 3.1 and later do, which TensorRT-LLM "
                f"{self.release.tensorrt_llm} does not know: take a later --release"
            )
        if config.tie_word_embeddings and not self.release.version.tied_embeddings:
            return (
                f"has no lm_head.weight of its own (tie_word_embeddings), without which TensorRT-LLM "
                f"{self.release.tensorrt_llm} converts no checkpoint: take a later --release"
            )
        if config.head_dim * config.num_attention_heads != config.hidden_size and not self.release.version.own_head_dim:
            return (
                f"has a head_dim of its own ({config.head_dim}), where TensorRT-LLM {self.release.tensorrt_llm} takes "
                "hidden_size / num_attention_heads: take a later --release"
            )
        return weights_fault(checkpoint, "--quantization")

    def check_machine(self) -> None:
        version = TensorRTPython.find().version()
        command = f"scripts/in_container --release {self.release.tag} python3 pack_model.py tensorrt …"
        if version is None:
            raise EngineError(f"tensorrt_llm is not installed here: run inside NVIDIA's container, with {command}")
        if not same_version(self.release.tensorrt_llm, version):
            raise EngineError(
                f"release {self.release.tag} has TensorRT-LLM {self.release.tensorrt_llm} and {version} is installed "
                f"here: choose its release with --release, or run {command}"
            )
        if self._named:
            raise EngineError("--gpu is for --dry-run: an engine is built on the GPU that it is for")
        if len(self._gpus) < (ranks := self.settings.world_size):
            raise EngineError(
                f"the engine takes {ranks} GPUs and {len(self._gpus)} can be used here: give the container "
                "more, or lower --tp and --pp"
            )

    def serve_command(self, tag: str) -> str:
        return f"scripts/in_container --release {self.release.tag} bentoml serve --arg model={tag}"


def _fit(settings: TensorRTSettings, checkpoint: Checkpoint) -> TensorRTSettings:
    """The settings with lengths that the model's context can hold."""
    context = checkpoint.config.max_position_embeddings
    longest = None if settings.max_seq_len is None else min(settings.max_seq_len, context)
    shortest = min(settings.max_input_len, (longest or context) - 1)
    return settings.model_copy(update={"max_seq_len": longest, "max_input_len": shortest})


class TensorRTBuild(Build):
    """One checkpoint with settings that fit it. Its precision is its quantization, or else its dtype."""

    def __init__(self, checkpoint: Checkpoint, settings: TensorRTSettings, release: Release, gpus: list[GPU]) -> None:
        """`gpus`: one for each rank, or none to plan for."""
        super().__init__(checkpoint)
        self.settings, self.release, self._gpus = settings, release, gpus
        self.dialect = DIALECTS[release.dialect]

    @property
    def precision(self) -> str:
        return self.settings.dtype if self.settings.quantization == "none" else self.settings.quantization

    def plan(self) -> Plan:
        settings = self.settings
        size = sizing.estimate(self.checkpoint.config, settings)
        share = size.engine // settings.world_size
        call = ConvertCall.of(self.checkpoint, settings, self.release, PLAN_CHECKPOINT)
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
            "name": NAME,
            "precision": self.precision,
            "files": {f"rank{rank}.engine": share for rank in range(settings.world_size)},
            "settings": {
                **settings.model_dump(mode="json"),
                "image": self.release.image,
                "tensorrt_llm": self.release.tensorrt_llm,
                "context_length": self.context_length,
                "convert": vars(call),
                "build": list[JsonValue](
                    build_argv(settings, self.release, PLAN_CHECKPOINT, PLAN_ENGINE) + timing_argv(*PLAN_TIMING)
                ),
                "estimate": {
                    "weights_bytes": size.weights,
                    "reserve_bytes": size.reserve,
                    "kv_bytes_per_token": size.kv_bytes_per_token,
                    "engine_bytes": size.engine,
                },
                "memory": memory[0] if memory else None,
            },
        }

    def write(self, directory: Path, workspace: Path) -> None:
        builder = Builder(workspace, TensorRTPython.find())
        builder.build(self.checkpoint, self.settings, self.release, self._gpus[0].name, directory)
        if self._guided:
            guided.write_tokenizer_info(self.checkpoint, directory)

    @property
    def _guided(self) -> bool:
        """Whether the release has guided decoding."""
        return guided.INPUT not in self.dialect.absent

    @property
    def context_length(self) -> int:
        """What trtllm-build makes of max_seq_len: given, or deduced from the model, or (0.10.0) input plus output."""
        settings, context = self.settings, self.checkpoint.config.max_position_embeddings
        if settings.max_seq_len is not None:
            return settings.max_seq_len
        if self.release.version.max_seq_len_flag:
            return context
        return min(settings.max_input_len + OUTPUT_LEN_0_10, context)

    def manifest_part(self) -> ManifestPart:
        gpu, settings = self._gpus[0], self.settings
        built = Provenance(
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
            max_seq_len=self.context_length,
            max_num_tokens=settings.max_num_tokens,
        )
        return {
            "engine": NAME,
            "precision": self.precision,
            "context_length": self.context_length,
            "versions": {"tensorrt_llm": self.release.tensorrt_llm},
            "dialect": self.dialect.name,
            "build": built.model_dump(),
            "options": {},
        }

    def launch(self) -> list[list[str]]:
        return launch_plan(self.settings.world_size)

    def model_config(self) -> pb.ModelConfig:
        policy = pb.ModelQueuePolicy(max_queue_size=0) if self.dialect.queue_size else None
        config = pb.ModelConfig(
            name="tensorrt_llm",
            backend="tensorrtllm",
            max_batch_size=contract.MAX_BATCH_SIZE,
            input=contract.INPUTS,
            output=contract.OUTPUTS,
            parameters=contract.parameters(self.settings.parameters() | (guided.PARAMETERS if self._guided else {})),
            model_transaction_policy=pb.ModelTransactionPolicy(decoupled=True),
            # The engine itself batches in flight: Triton hands over what has come, at once.
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
