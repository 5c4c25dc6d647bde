"""Every setting a user can make. Each is an argument (`--arg name=value`) and an environment variable
(`TRTLLM_NAME=value`); an argument wins, and travels with the Bento that was built with it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, IPvAnyAddress, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bento_trtllm.triton_models.shared.cores import cores


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    texts = {name: "" if value is None else str(value) for name, value in values.items()}
    return {name: text.lower() if isinstance(values[name], bool) else text for name, text in texts.items()}


def default_workers(cores: int) -> int:
    """A third relays no more tokens (docs/performance.md); other cores are for Triton, and on a CPU for the engine."""
    return 1 if cores < 8 else 2


@dataclass(frozen=True, init=False)
class For:
    """The engines that a setting is for, by name. One that says nothing is for all of them."""

    engines: tuple[str, ...]

    def __init__(self, *engines: str) -> None:
        object.__setattr__(self, "engines", engines)


class EngineSettings(BaseModel):
    """How an engine runs. Where one of TensorRT's is not given, the engine runs as it was packed.

    TensorRT's are parameters of TensorRT-LLM's Triton model, docs/model_config.md of tensorrtllm_backend.
    """

    max_tokens_in_paged_kv_cache: Annotated[int, For("openvino", "tensorrt", "pytorch")] = Field(
        0, ge=0, description="KV cache in tokens. 0: a quarter of the free memory, at most 64 whole contexts."
    )
    max_num_tokens: Annotated[int, For("openvino")] = Field(
        0, ge=0, description="Most tokens of a step, prefill included. 0: 128 a core, from 256 to 2048."
    )
    max_num_sequences: Annotated[int, For("openvino")] = Field(
        256, ge=1, description="Most sequences in the batch; further ones wait. OpenVINO GenAI's own default."
    )
    enable_chunked_context: Annotated[bool, For("openvino", "tensorrt", "pytorch")] = Field(
        True, description="Split long prompts over steps, so that other streams go on meanwhile."
    )
    enable_kv_cache_reuse: Annotated[bool, For("openvino", "tensorrt", "pytorch")] = Field(
        False,
        description="Keep the KV cache of prompts, so that a shared beginning is not computed again. "
        "Refused with OpenVINO: OpenVINO GenAI's mixes prompts up.",
    )
    threads: Annotated[int, For("openvino")] = Field(
        0,
        ge=0,
        description="CPU threads. 0: OpenVINO's choice, one a physical core, or as many as a container's quota allows.",
    )
    exact: Annotated[bool | None, For("openvino")] = Field(
        None,
        description="Compute in f32 throughout: greedy tokens equal those of transformers with the same weights. "
        "Left out: true for a model that was packed in f32, as the demo is.",
    )
    inference_precision: Annotated[Literal["f32", "bf16", "f16"] | None, For("openvino")] = Field(
        None, description="Left out: f32 where it is to be exact, else what the CPU is fastest in: bf16 if it has that."
    )
    kv_cache_precision: Annotated[Literal["f32", "f16", "bf16", "u8"] | None, For("openvino")] = Field(
        None,
        description="Left out: f32 where it is to be exact, else u8, a quarter of it; a close call may go the other "
        "way.",
    )
    dynamic_quantization_group_size: Annotated[int | None, For("openvino")] = Field(
        None,
        ge=0,
        description="Activations that share a scale, where they are rounded to 8 bits before they meet weights of 8 "
        "or 4; 0: they are not. Left out: 0 where it is to be exact, else OpenVINO's own, 32.",
    )
    cancellation_check_period_ms: Annotated[int, For("openvino", "tensorrt", "pytorch")] = Field(
        20,
        ge=1,
        description="A cancelled request leaves the batch after this. TensorRT-LLM's default is 100; it counts whole "
        "milliseconds.",
    )
    response_pace_ms: Annotated[float, For("openvino", "pytorch")] = Field(
        1.5,
        ge=0,
        description="A stream's responses come no closer than this for each stream that runs, and never more than "
        "100 ms apart; tokens made meanwhile go along. A response takes some 0.5 ms of the cores that the engine "
        "computes on, so all together take a third of one. 0: each token at once.",
    )
    kv_cache_free_gpu_mem_fraction: Annotated[float | None, For("tensorrt", "pytorch")] = Field(
        None, gt=0, lt=1, description="KV cache, as a part of the GPU memory that the engine leaves free."
    )
    batch_scheduler_policy: Annotated[
        Literal["max_utilization", "guaranteed_no_evict"] | None, For("tensorrt", "pytorch")
    ] = Field(None, description="Whether a running request may be paused when the KV cache is full.")

    @model_validator(mode="after")
    def _precisions_go_together(self) -> "EngineSettings":
        """Found with OpenVINO GenAI 2026.4.1 by loading a model with every pair; it fails with others."""
        inference, cache = self.inference_precision, self.kv_cache_precision
        if self.exact:
            given = {
                "inference_precision": inference not in (None, "f32"),
                "kv_cache_precision": cache not in (None, "f32"),
                "dynamic_quantization_group_size": bool(self.dynamic_quantization_group_size),
            }
            if odd := [name for name, otherwise in given.items() if otherwise]:
                raise ValueError(f"exact=true does not go with {odd[0]}={getattr(self, odd[0])}: leave one of them out")
        if inference is not None and cache in ("f32", "bf16") and cache != inference:
            raise ValueError(
                f"kv_cache_precision={cache} does not go with inference_precision={inference}: "
                "make them the same, or take f16 or u8 for the KV cache"
            )
        return self

    def parameters(self, engine: str, *, given: bool = False) -> dict[str, str]:
        """An engine's settings as parameters of its config.pbtxt; with `given` without those that are left open."""
        names = [name for name in EngineSettings.model_fields if engine in engines_of(name)]
        values = {name: getattr(self, name) for name in names if not given or name in self.model_fields_set}
        # 0 and None leave the choice open.
        # An empty text is left open, too.
        return _texts({name: value for name, value in values.items() if not given or value or value is False})


class DoorSettings(BaseModel):
    """Where other programs call Triton itself, over gRPC; without a port, none can."""

    grpc_port: int = Field(
        0, ge=0, le=65535, description="Triton takes gRPC here, text in and out by its model `ensemble`. 0: no port."
    )
    grpc_address: IPvAnyAddress = Field(
        IPv4Address("127.0.0.1"), description="The address of grpc_port. Other machines reach any but a loopback one."
    )
    grpc_key: SecretStr = Field(
        SecretStr(""), description="What calls to grpc_port bring as the header triton-grpc-protocol-infer-key."
    )

    @field_validator("grpc_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr) -> SecretStr:
        # Triton's command line has it behind `:` and `=`.
        if not re.fullmatch(r"[\w.~+/-]*=*", key.get_secret_value(), re.ASCII):
            raise ValueError("it may have letters, digits and -._~+/ only, and = at its end")
        return key

    @model_validator(mode="after")
    def _is_a_door(self) -> "DoorSettings":
        if not self.grpc_port and (given := self.model_fields_set & {"grpc_address", "grpc_key"}):
            raise ValueError(f"{min(given)} is of no use without grpc_port: give both, or neither")
        if not self.grpc_address.is_loopback and not self.grpc_key.get_secret_value():
            raise ValueError(
                f"grpc_address={self.grpc_address} lets other machines run prompts without a key: give grpc_key, too"
            )
        return self


class TritonSettings(DoorSettings):
    """How tritonserver is started, watched and stopped."""

    startup_timeout_s: float = Field(
        600, gt=0, description="Triton must be ready after this. A 70B engine takes minutes from a cold disk."
    )
    stop_timeout_s: float = Field(
        10, ge=2, description="Streams may go on this long after a stop. Triton itself counts whole seconds."
    )
    health_interval_s: float = Field(
        1, gt=0, description="How often Triton is asked whether it is well. Its exit is seen at once anyway."
    )
    load_stall_limit_s: float = Field(
        120, gt=0, description="A Triton that loads and does nothing for so long is killed and started again."
    )
    stall_limit_s: float = Field(
        10,
        gt=0,
        description="Triton is killed and restarted after this long without an answer, or a step of its engine.",
    )
    step_limit_s: Annotated[float, For("openvino")] = Field(
        60,
        gt=0,
        description="A step of an engine that computes on the CPU may take so long, whatever stall_limit_s is.",
    )
    engine_errors_before_restart: int = Field(
        3, ge=1, description="Triton is restarted after its engine failed so many requests in a row."
    )
    restart_first_delay_s: float = Field(
        0.1, gt=0, description="Wait before the first restart; doubles with each further failure in a row."
    )
    restart_max_delay_s: float = Field(
        30, gt=0, description="Longest wait between restarts. After being ready this long, or 10 s, all is forgotten."
    )
    restart_failures_before_failed: int = Field(
        5, ge=1, description="After this many failures in a row the state is failed. Trying goes on, slowly."
    )
    triton_log_verbose: int = Field(
        0, ge=0, description="Triton's --log-verbose. From 1 on, it writes several lines a request."
    )


def _list(text: str) -> list[str]:
    return [item.strip().lower() for item in text.split(",") if item.strip()]


class ServingSettings(BaseModel):
    """What the service takes on, for how long, and from whom. Counts are for the service as a whole."""

    max_running_requests: int = Field(
        256, ge=1, description="Requests in the engine at once; as many as max_num_sequences lets run."
    )
    max_waiting_requests: int = Field(
        256, ge=0, description="Further requests in line. Whoever comes then gets a 429 at once."
    )
    first_token_timeout_s: float = Field(
        60, gt=0, description="A prompt must be read after this, its time in line included."
    )
    ping_interval_s: float = Field(
        15, ge=0, description="A stream of events that is silent for so long has a comment, `: ping`. 0: none."
    )
    between_tokens_timeout_s: float = Field(30, gt=0, description="Longest pause within an answer.")
    request_timeout_s: float = Field(600, gt=0, description="Longest answer; 1024 tokens at 2 a second fit.")
    write_timeout_s: float = Field(
        30, gt=0, description="A client that takes nothing of its answer for so long is cut off."
    )
    head_timeout_s: float = Field(
        10, gt=0, description="A request's line and headers must be in after this. They are one packet, mostly."
    )
    body_timeout_s: float = Field(
        60, gt=0, description="A request's body must be in after this: 4 MiB at 70 kB a second are."
    )
    max_connections: int = Field(
        0, ge=0, description="Of a worker. 0: four times max_connections_per_address, or what open files allow."
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        description="Of a worker, from one address (IPv6: a /64). 0: twice the requests that run and wait at most, "
        "or 1024 if that is more, so that a reverse proxy, which is one address, is not what is refused.",
    )
    drain_timeout_s: float = Field(
        20, ge=0, description="At a stop, open answers may go on this long. Kubernetes grants 30 s in all."
    )
    max_body_bytes: int = Field(4 * 2**20, ge=1, description="Most bytes of a request. A context of text is far below.")
    api_keys: SecretStr = Field(
        SecretStr(""), description="Keys that clients send as `Authorization: Bearer KEY`, with commas between."
    )
    api_keys_file: Path | None = Field(None, description="A file with a key a line, as secrets are mounted.")
    unknown_fields: Literal["refuse", "ignore"] = Field(
        "refuse", description="What a field that is not known does: a 400 that names it, or nothing."
    )
    tool_format: Literal["auto", "llama3", "pythonic", "hermes", "mistral", "qwen"] = Field(
        "auto", description="How the model writes tool calls. auto: as its chat template does, or else as Llama 3.1."
    )
    allowed_hosts: str = Field(
        "",
        description="Where there are no keys: names in Host that are answered, with commas between; * is all. "
        "Left out: on a loopback address this machine's, elsewhere all (docs/threat-model.md).",
    )
    allowed_origins: str = Field(
        "",
        description="Pages of other hosts that may call, as https://NAME:PORT with commas between; * is all. They, and "
        "no others, get CORS headers.",
    )

    def connections(self) -> tuple[int, int]:
        """Most connections of a worker in all, and from one address."""
        taken_on = self.max_running_requests + self.max_waiting_requests
        of_an_address = self.max_connections_per_address or max(2 * taken_on, 1024)
        return self.max_connections or 4 * of_an_address, of_an_address

    @property
    def longest_request_s(self) -> float:
        """Until a request is over in any case, its body and its time in line included; for what stands before it."""
        return self.head_timeout_s + self.body_timeout_s + self.request_timeout_s

    def keys(self) -> list[str]:
        """All API keys; none means that no key is asked for. Raises OSError for a file that cannot be read."""
        given = self.api_keys.get_secret_value().split(",")
        if self.api_keys_file:
            given += self.api_keys_file.read_text("utf-8").splitlines()
        return [key.strip() for key in given if key.strip()]

    def hosts(self) -> list[str]:
        """Names that are answered in the Host header, in lower case."""
        return _list(self.allowed_hosts)

    def origins(self) -> list[str]:
        """Origins of pages that may call, in lower case."""
        return _list(self.allowed_origins)


class Settings(BaseSettings, EngineSettings, TritonSettings, ServingSettings):
    """All settings of the service."""

    # An empty variable is as good as none: deployments write one for what is left open.
    model_config = SettingsConfigDict(
        env_prefix="TRTLLM_", env_ignore_empty=True, frozen=True, extra="forbid", protected_namespaces=()
    )

    model: str = Field("demo-llama", description="Tag of the packed model in the BentoML model store.")
    workers: int = Field(
        default_factory=lambda: default_workers(cores()),
        ge=1,
        description="Processes that turn text into tokens and back; one Triton serves all. Left out: 1 up to 7 cores, "
        "then 2 (docs/performance.md).",
    )

    def ignored_by(self, engine: str) -> list[str]:
        """The settings that were given, and that an engine has no use for."""
        return [name for name in type(self).model_fields if name in self.model_fields_set if not _is_for(name, engine)]


def engines_of(name: str) -> tuple[str, ...]:
    """The engines that a setting is for; none where it is for all of them."""
    return next((each.engines for each in Settings.model_fields[name].metadata if isinstance(each, For)), ())


def _is_for(name: str, engine: str) -> bool:
    engines = engines_of(name)
    return not engines or engine in engines
