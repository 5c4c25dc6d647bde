"""Every setting, given as an argument (`--arg name=value`) or an environment variable (`TRTLLM_NAME=value`).

An argument wins, and is stored in a Bento that is built with it.
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
    """Two relay a fifth more tokens than one and go on where one dies, a third relays no more (docs/performance.md).

    Measured on 2 and 16 cores; from how many on the second is worth it is a guess. On few, Triton needs them, and on a
    CPU the engine does, which is slower than one worker in any case.
    """
    return 1 if cores < 8 else 2


@dataclass(frozen=True, init=False)
class For:
    """The engines that a setting applies to, by name. A setting without this applies to all."""

    engines: tuple[str, ...]

    def __init__(self, *engines: str) -> None:
        object.__setattr__(self, "engines", engines)


class EngineSettings(BaseModel):
    """How an engine runs. Without one of TensorRT's settings, the engine runs as it was packed.

    TensorRT's are parameters of TensorRT-LLM's Triton model, docs/model_config.md of tensorrtllm_backend.
    """

    max_tokens_in_paged_kv_cache: Annotated[int, For("openvino", "tensorrt", "pytorch")] = Field(
        0, ge=0, description="KV cache, in tokens. 0: a quarter of the free memory, at most 64 full contexts."
    )
    max_num_tokens: Annotated[int, For("openvino")] = Field(
        0, ge=0, description="Most tokens per step, prefill included. 0: 128 per core, from 512 to 2048."
    )
    max_num_sequences: Annotated[int, For("openvino")] = Field(
        256, ge=1, description="Most sequences in the batch; others wait. The default is OpenVINO GenAI's own."
    )
    enable_chunked_context: Annotated[bool, For("openvino", "tensorrt", "pytorch")] = Field(
        True,
        description="Split the prefill of long prompts over several steps, so that other streams continue meanwhile.",
    )
    enable_kv_cache_reuse: Annotated[bool, For("openvino", "tensorrt", "pytorch")] = Field(
        False,
        description="Keep the KV cache of prompts, so that a shared prefix is not computed again. "
        "Refused with OpenVINO: OpenVINO GenAI's prefix cache mixes prompts up.",
    )
    prompt_lookup: Annotated[int, For("openvino")] = Field(
        0,
        ge=0,
        le=32,
        description="Tokens a step that are guessed: those that followed the last words where they stood before, in "
        "the prompt or the answer. Greedy answers stay as they are where it is exact (f32), which is tested; in other "
        "types several tokens checked at once may be summed otherwise, and a close call may go the other way. It pays "
        "where text repeats, for one stream or few (docs/performance.md). 0: none.",
    )
    threads: Annotated[int, For("openvino")] = Field(
        0,
        ge=0,
        description="CPU threads. 0: OpenVINO's choice, one per physical core, or as many as a container's quota "
        "allows.",
    )
    exact: Annotated[bool | None, For("openvino")] = Field(
        None,
        description="Compute in f32 throughout: greedy tokens equal those of transformers with the same weights. "
        "Left out: true for a model that was packed in f32, as the demo is.",
    )
    inference_precision: Annotated[Literal["f32", "bf16", "f16"] | None, For("openvino")] = Field(
        None,
        description="Left out: f32 where it is to be exact, or weights have 8 or 4 bits and activations are rounded; "
        "else what the CPU is fastest in. A CPU with AMX is fastest in bf16, but for weights of 4 bits.",
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
        "or 4; 0: they are not. Left out: 0 where it is to be exact; all of a token's for weights of 8 bits on a CPU "
        "with AMX; else 128.",
    )
    cancellation_check_period_ms: Annotated[int, For("openvino", "tensorrt", "pytorch")] = Field(
        20,
        ge=1,
        description="A request whose call is cancelled leaves the batch within this time; in OpenVINO's within 100 ms "
        "where so many run that asking for all takes longer than a hundredth of it. Other gRPC clients' calls are, "
        "and with TensorRT all. TensorRT-LLM's default is 100; it takes whole milliseconds.",
    )
    response_pace_ms: Annotated[float, For("openvino", "pytorch")] = Field(
        1.5,
        ge=0,
        description="The least interval between a stream's responses is this times the number of running streams, at "
        "most "
        "100 ms; tokens generated meanwhile are sent together. A response takes some 0.5 ms of the cores that the "
        "engine computes on, so all together take a third of one core. 0: each token at once.",
    )
    kv_cache_free_gpu_mem_fraction: Annotated[float | None, For("tensorrt", "pytorch")] = Field(
        None, gt=0, lt=1, description="KV cache, as a fraction of the GPU memory that the engine leaves free."
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
                "make them the same, or use f16 or u8 for the KV cache"
            )
        return self

    def parameters(self, engine: str, *, given: bool = False) -> dict[str, str]:
        """An engine's settings as parameters of its config.pbtxt; with `given`, only those that were set."""
        names = [name for name in EngineSettings.model_fields if engine in engines_of(name)]
        values = {name: getattr(self, name) for name in names if not given or name in self.model_fields_set}
        # 0 and None leave the choice open.
        # An empty text is left open, too.
        return _texts({name: value for name, value in values.items() if not given or value or value is False})


class DoorSettings(BaseModel):
    """Where other programs call Triton itself, over gRPC; without a port, none can."""

    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Triton takes gRPC calls here, text in and out by its model `ensemble`. 0: no port.",
    )
    grpc_address: IPvAnyAddress = Field(
        IPv4Address("127.0.0.1"),
        description="The address of grpc_port. Other machines can reach any but a loopback address.",
    )
    grpc_key: SecretStr = Field(
        SecretStr(""), description="What calls to grpc_port send in the header triton-grpc-protocol-infer-key."
    )

    @field_validator("grpc_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr) -> SecretStr:
        # On Triton's command line it follows `:` and `=`.
        if not re.fullmatch(r"[\w.~+/-]*=*", key.get_secret_value(), re.ASCII):
            raise ValueError("it may contain only letters, digits and -._~+/, with = at its end")
        return key

    @model_validator(mode="after")
    def _is_a_door(self) -> "DoorSettings":
        if not self.grpc_port and (given := self.model_fields_set & {"grpc_address", "grpc_key"}):
            raise ValueError(f"{min(given)} has no effect without grpc_port: give both, or neither")
        if not self.grpc_address.is_loopback and not self.grpc_key.get_secret_value():
            raise ValueError(
                f"grpc_address={self.grpc_address} lets other machines run prompts without a key: give grpc_key as well"
            )
        return self


TRACES_PATH = "/v1/traces"
"""Where a collector takes spans over HTTP: the OTLP specification."""


class TraceSettings(BaseModel):
    """Where OpenTelemetry's spans go, the service's and Triton's; without an endpoint, nowhere."""

    trace_endpoint: str = Field(
        "", description="An OpenTelemetry collector that takes OTLP over HTTP, as http://HOST:4318. Empty: no traces."
    )
    trace_sample_rate: float = Field(
        1,
        ge=0,
        le=1,
        description="The share of requests to trace, where the caller's header `traceparent` does not decide it.",
    )

    @field_validator("trace_endpoint")
    @classmethod
    def _is_a_url(cls, url: str) -> str:
        # On Triton's command line it follows a comma.
        if url and not re.fullmatch(r"https?://[^\s,/?#]+(/[^\s,?#]*)?", url):
            raise ValueError("it must be the URL of a collector, as http://localhost:4318")
        return url

    @model_validator(mode="after")
    def _has_an_endpoint(self) -> "TraceSettings":
        if not self.trace_endpoint and "trace_sample_rate" in self.model_fields_set:
            raise ValueError("trace_sample_rate has no effect without trace_endpoint: give both, or neither")
        return self

    @property
    def traces_url(self) -> str:
        """Where spans are sent, with the path; empty: nowhere."""
        url = self.trace_endpoint.rstrip("/")
        return url if not url or url.endswith(TRACES_PATH) else url + TRACES_PATH


class TritonSettings(DoorSettings, TraceSettings):
    """How tritonserver is started, monitored and stopped."""

    startup_timeout_s: float = Field(
        600, gt=0, description="Triton must be ready within this time. A 70B engine takes minutes from a cold disk."
    )
    stop_timeout_s: float = Field(
        10, ge=2, description="Streams may continue this long after a stop. Triton itself counts whole seconds."
    )
    health_interval_s: float = Field(
        1, gt=0, description="How often Triton's health is checked. Its exit is noticed at once anyway."
    )
    load_stall_limit_s: float = Field(
        120, gt=0, description="A Triton that makes no progress for this long while it loads is killed and restarted."
    )
    stall_limit_s: float = Field(
        10,
        gt=0,
        description="Triton is killed and restarted after this long without an answer or a step of its engine.",
    )
    step_limit_s: Annotated[float, For("openvino")] = Field(
        60,
        gt=0,
        description="A step of an engine that computes on the CPU may take this long, whatever stall_limit_s is.",
    )
    engine_errors_before_restart: int = Field(
        3, ge=1, description="Triton is restarted after its engine has failed this many requests in a row."
    )
    restart_first_delay_s: float = Field(
        0.1, gt=0, description="Wait before the first restart; doubles with each further failure in a row."
    )
    restart_max_delay_s: float = Field(
        30,
        gt=0,
        description="Longest wait between restarts; after being ready this long, or 10 s, past failures are forgotten.",
    )
    restart_failures_before_failed: int = Field(
        5, ge=1, description="After this many failures in a row the state is failed. Restarts are still tried, slowly."
    )
    triton_log_verbose: int = Field(
        0, ge=0, description="Triton's --log-verbose. From 1 on, Triton logs several lines per request."
    )


def _list(text: str) -> list[str]:
    return [item.strip().lower() for item in text.split(",") if item.strip()]


class ServingSettings(BaseModel):
    """What the service accepts, for how long, and from whom. Counts are for the service as a whole."""

    max_running_requests: int = Field(
        256, ge=1, description="Requests in the engine at once; the default equals that of max_num_sequences."
    )
    max_waiting_requests: int = Field(
        256, ge=0, description="Further requests in the queue. When it is full, others get a 429 at once."
    )
    first_token_timeout_s: float = Field(
        60, gt=0, description="The first token must come within this time, the time in the queue included."
    )
    ping_interval_s: float = Field(
        15, ge=0, description="An event stream that is silent for this long gets a comment, `: ping`. 0: none."
    )
    between_tokens_timeout_s: float = Field(30, gt=0, description="Longest pause within an answer.")
    request_timeout_s: float = Field(600, gt=0, description="Longest answer; 1024 tokens at 2 a second fit.")
    write_timeout_s: float = Field(
        30, gt=0, description="A client that reads nothing of its answer for this long is cut off."
    )
    head_timeout_s: float = Field(
        10,
        gt=0,
        description="A request's first line and headers must arrive within this time. Usually they are one packet.",
    )
    body_timeout_s: float = Field(
        60, gt=0, description="A request's body must arrive within this time, as 4 MiB at 70 kB a second do."
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="Per worker. 0: four times max_connections_per_address, or what the limit of open files allows.",
    )
    max_connections_per_address: int = Field(
        0,
        ge=0,
        description="Per worker and address (IPv6: a /64). 0: twice the sum of max_running_requests and "
        "max_waiting_requests, or 1024 if that is more, so that a reverse proxy, which is one address, is not refused.",
    )
    drain_timeout_s: float = Field(
        20,
        ge=0,
        description="At a stop, open streams may continue this long. Kubernetes grants 30 s in all by default.",
    )
    max_body_bytes: int = Field(
        4 * 2**20, ge=1, description="Largest request body. A full context of text is far smaller."
    )
    api_keys: SecretStr = Field(
        SecretStr(""), description="Keys that clients send as `Authorization: Bearer KEY`, separated by commas."
    )
    api_keys_file: Path | None = Field(None, description="A file with one key per line, as secrets are mounted.")
    open_metrics: bool = Field(
        False,
        description="Whether /metrics takes no key: gateways that pick replicas by it, as Kubernetes', send none.",
    )
    keys_file: Path | None = Field(
        None, description="A YAML file of keys with names and limits; read again when it changes (docs/keys.md)."
    )
    admin_key: SecretStr = Field(
        SecretStr(""),
        description="The key of /admin and /admin.json, and of /metrics. Left out: there are no such pages.",
    )
    audit_log: Path | None = Field(
        None,
        description="A file that gets a line of JSON for each answer: whose it was and its tokens, never its text.",
    )
    audit_log_max_bytes: int = Field(64 * 2**20, ge=2**10, description="A longer audit log gets a number.")
    audit_log_files: int = Field(5, ge=1, description="Files of the audit log at most, those with numbers included.")
    unknown_fields: Literal["refuse", "ignore"] = Field(
        "refuse", description="What an unknown field causes: a 400 that names it, or nothing."
    )
    tool_format: Literal["auto", "llama3", "pythonic", "hermes", "mistral", "qwen"] = Field(
        "auto", description="How the model writes tool calls. auto: as its chat template does, or else as Llama 3.1."
    )
    allowed_hosts: str = Field(
        "",
        description="Without keys: names accepted in Host, separated by commas; * is all. By default this machine's "
        "on a "
        "loopback address, all on others (docs/threat-model.md).",
    )
    allowed_origins: str = Field(
        "",
        description="Pages of other hosts that may call, as https://NAME:PORT, separated by commas; * is all. Only "
        "they "
        "get CORS headers.",
    )

    def connections(self) -> tuple[int, int]:
        """Most connections of a worker in all, and from one address."""
        taken_on = self.max_running_requests + self.max_waiting_requests
        of_an_address = self.max_connections_per_address or max(2 * taken_on, 1024)
        return self.max_connections or 4 * of_an_address, of_an_address

    @property
    def longest_request_s(self) -> float:
        """The longest a request can take, including its body and its time in the queue; for BentoCloud's proxies."""
        return self.head_timeout_s + self.body_timeout_s + self.request_timeout_s

    def keys(self) -> list[str]:
        """All API keys; none means that no key is required. Raises OSError for a file that cannot be read."""
        given = self.api_keys.get_secret_value().split(",")
        if self.api_keys_file:
            given += self.api_keys_file.read_text("utf-8").splitlines()
        return [key.strip() for key in given if key.strip()]

    def hosts(self) -> list[str]:
        """Names accepted in the Host header, in lower case."""
        return _list(self.allowed_hosts)

    def origins(self) -> list[str]:
        """Origins of pages that may call, in lower case."""
        return _list(self.allowed_origins)


class Settings(BaseSettings, EngineSettings, TritonSettings, ServingSettings):
    """All settings of the service."""

    # An empty variable counts as unset: deployments use one for what is left open.
    model_config = SettingsConfigDict(
        env_prefix="TRTLLM_", env_ignore_empty=True, frozen=True, extra="forbid", protected_namespaces=()
    )

    model: str = Field("demo-llama", description="Tag of the pack in the BentoML model store.")
    models: str = Field(
        "",
        description="Instead of model: tags of several packs, separated by commas; the first is for requests that name "
        "none (docs/models.md).",
    )
    workers: int = Field(
        default_factory=lambda: default_workers(cores()),
        ge=1,
        description="Processes that turn text into tokens and back; one Triton serves all. Left out: 1 up to 7 cores, "
        "then 2 (docs/performance.md).",
    )

    @model_validator(mode="after")
    def _models_have_names_of_their_own(self) -> "Settings":
        if "models" not in self.model_fields_set:
            return self
        if "model" in self.model_fields_set and self.model:  # a bentofile's is emptied, since it cannot be left out
            raise ValueError("models names all models that are served, and model one: give only one of the two")
        if not self.tags:
            raise ValueError("models names no model: give tags, separated by commas, or leave it out")
        names = [tag.partition(":")[0] for tag in self.tags]
        if twice := next((name for name in names if names.count(name) > 1), None):
            both = " and ".join(tag for tag in self.tags if tag.partition(":")[0] == twice)
            raise ValueError(
                f"models has {both}, and requests would call both {twice}: give one of them, or pack the other under "
                "another name"
            )
        if len(names) > 1 and self.grpc_port:
            raise ValueError(
                f"only one of several models can listen at grpc_port={self.grpc_port}: leave it out, or serve one model"
            )
        return self

    @property
    def tags(self) -> list[str]:
        """The packs to serve; the first is for requests that name no model."""
        return _list(self.models) if "models" in self.model_fields_set else [self.model]

    def ignored_by(self, *engines: str) -> list[str]:
        """The settings that were given but apply to none of these engines."""
        given = [name for name in type(self).model_fields if name in self.model_fields_set]
        return [name for name in given if not any(_is_for(name, engine) for engine in engines)]


def engines_of(name: str) -> tuple[str, ...]:
    """The engines that a setting applies to; empty if it applies to all."""
    return next((each.engines for each in Settings.model_fields[name].metadata if isinstance(each, For)), ())


def _is_for(name: str, engine: str) -> bool:
    engines = engines_of(name)
    return not engines or engine in engines
