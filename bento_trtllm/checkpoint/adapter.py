"""A LoRA adapter as PEFT saves one, and whether it fits a checkpoint.

    adapter_config.json         rank, alpha, target modules, and whatever makes it more than plain LoRA
    adapter_model.safetensors   base_model.model.<module>.lora_A.weight [r, in] and .lora_B.weight [out, r]

To a weight W [out, in] it adds scale * B @ A. As read in peft 0.21.2: tuners/lora/config.py has the fields,
LoraLayer.update_layer and Linear.get_delta_weight in tuners/lora/layer.py the scale and the sum, get_pattern_key in
utils/other.py what a key of rank_pattern means, and utils/save_and_load.py the names of the tensors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bento_trtllm.checkpoint.checkpoint import Checkpoint, unusable
from bento_trtllm.checkpoint.safetensors import NUMPY_TYPES, Tensor, read_shard
from bento_trtllm.errors import CheckpointError

Number = TypeVar("Number", int, float)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
VARIANTS = (
    "use_dora", "modules_to_save", "fan_in_fan_out", "lora_bias", "layer_replication", "trainable_token_indices",
    "target_parameters", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config",
    "monteclora_config",
)  # fmt: skip
"""Fields that make it more than scale * B @ A on a layer's weights."""
CHANGED_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Values of init_lora_weights that change W, too, when PEFT loads the adapter; converted when saved, it says `true`."""


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    peft_type: str
    r: int = Field(gt=0)
    lora_alpha: float
    target_modules: list[str] | str | None = None
    base_model_name_or_path: str | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True

    def scale(self, module: str) -> float:
        alpha = _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        rank = self.rank(module)
        return alpha / (sqrt(rank) if self.use_rslora else rank)

    def rank(self, module: str) -> int:
        return _by_pattern(self.rank_pattern, module, self.r)

    def targets(self, module: str) -> bool:
        """Whether target_modules means that module: by a regular expression, or by the end of its name."""
        if isinstance(self.target_modules, str):
            return re.fullmatch(self.target_modules, module) is not None
        return self.target_modules is None or any(_ends(module, name) for name in self.target_modules)


@dataclass(frozen=True)
class Pair:
    """What is added to one weight: scale * b @ a, of a [rank, in] and b [out, rank]."""

    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True)
class Adapter:
    """An adapter that fits its checkpoint. `pairs` by the names of the checkpoint's weights."""

    path: Path
    pairs: Mapping[str, Pair]
    uniform_alpha: bool
    """Whether all modules have the one `lora_alpha`."""

    @property
    def rank(self) -> int:
        """The highest."""
        return max(pair.rank for pair in self.pairs.values())

    @property
    def files(self) -> list[Path]:
        return [self.path / CONFIG, self.path / WEIGHTS]


def read_adapter(argument: str, checkpoint: Checkpoint) -> Adapter:
    """The adapter in a directory. Raises CheckpointError, in one sentence, for one that does not fit the checkpoint."""
    path = Path(argument).expanduser().resolve()
    config = _read_config(path)
    if fault := _fault(config) or _base_fault(config.base_model_name_or_path, checkpoint):
        raise CheckpointError(f"{path / CONFIG} {fault}")
    if not (path / WEIGHTS).is_file():
        raise CheckpointError(f"{path} has no {WEIGHTS}: save the adapter again with safe_serialization=True")
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_shard(path / WEIGHTS).items():
        if not (found := TENSOR.fullmatch(name)):
            raise CheckpointError(f"{path / WEIGHTS} holds {name}: only lora_A and lora_B of linear layers can be used")
        if tensor.dtype not in NUMPY_TYPES:
            raise CheckpointError(
                f"{path / WEIGHTS}: {name} is of the type {tensor.dtype}: save it as BF16, F16 or F32"
            )
        sides.setdefault(found[1], {})[found[2]] = tensor
    if fault := _targets_fault(config, sides):
        raise CheckpointError(f"{path} {fault}")
    pairs = {f"{module}.weight": _pair(path, module, both, config, checkpoint) for module, both in sides.items()}
    alphas = {*(config.alpha_pattern or {}).values(), config.lora_alpha}
    return Adapter(path, pairs, len(alphas) == 1)


def _read_config(path: Path) -> _Config:
    file = path / CONFIG
    if not file.is_file():
        raise CheckpointError(f"{path} has no {CONFIG}: name the directory of a LoRA adapter that PEFT saved")
    try:
        config = _Config.model_validate_json(file.read_bytes())
        _compile(config)
    except ValidationError as error:
        raise unusable(file, error) from error
    except re.error as error:
        raise CheckpointError(f"{file} has {error.pattern!r}, which is no regular expression: {error}") from error
    return config


def _compile(config: _Config) -> None:
    """Raise re.error for what does not compile."""
    patterns = [*(config.rank_pattern or {}), *(config.alpha_pattern or {})]
    for pattern in [*patterns, *([config.target_modules] if isinstance(config.target_modules, str) else [])]:
        re.compile(pattern)


def _fault(config: _Config) -> str | None:
    if config.peft_type != "LORA":
        return f"has the peft_type {config.peft_type}: only LORA can be used"
    if config.bias != "none":
        return f"has bias {config.bias}: only an adapter without (bias none) can be used"
    extra: dict[str, Any] = config.model_extra or {}
    if variant := next((name for name in VARIANTS if extra.get(name)), None):
        return f"has {variant}: only plain LoRA can be used, so merge the adapter with PEFT (merge_and_unload)"
    begun = str(config.init_lora_weights).lower()
    if begun.startswith(CHANGED_BASE):
        return (
            f"has init_lora_weights {config.init_lora_weights}, which changes the base model, too: save the adapter "
            "with path_initial_model_for_weight_conversion"
        )
    return None


def _base_fault(named: str | None, checkpoint: Checkpoint) -> str | None:
    ours = {_name(checkpoint.source), _name(str(checkpoint.path))}
    if not named or _name(named) in ours:
        return None
    return (
        f"says that the adapter is for {named}, and the checkpoint is {checkpoint.source}: take that checkpoint, or, "
        "if it is the same, correct base_model_name_or_path"
    )


def _name(source: str) -> str:
    """A model's own name in lower case: of Hugging Face's id, a directory, or a snapshot in Hugging Face's cache."""
    parts = [part for part in source.split("/") if part]
    if len(parts) > 2 and parts[-2] == "snapshots":
        return parts[-3].split("--")[-1].lower()
    return parts[-1].lower() if parts else ""


def _targets_fault(config: _Config, sides: Mapping[str, Mapping[str, Tensor]]) -> str | None:
    if not sides:
        return f"has an empty {WEIGHTS}: save the adapter again"
    if odd := next((module for module in sides if not config.targets(module)), None):
        return f"has weights for {odd}, which target_modules in {CONFIG} does not name: save the adapter again"
    named = config.target_modules if isinstance(config.target_modules, list) else []
    if unused := next((name for name in named if not any(_ends(module, name) for module in sides)), None):
        return f"names {unused} in target_modules, and {WEIGHTS} has no weights for it: save the adapter again"
    return None


def _pair(path: Path, module: str, both: Mapping[str, Tensor], config: _Config, checkpoint: Checkpoint) -> Pair:
    name, file = f"{module}.weight", path / WEIGHTS
    weight = checkpoint.tensors.get(name)
    if weight is None or len(weight.shape) != 2:
        raise CheckpointError(f"{file} is for {module}, which {checkpoint.source} does not have")
    rank, (rows, columns) = config.rank(module), checkpoint.config.shapes()[name]
    wanted: dict[Literal["A", "B"], tuple[int, int]] = {"A": (rank, columns), "B": (rows, rank)}
    for side, shape in wanted.items():
        if side not in both:
            raise CheckpointError(f"{file} has no lora_{side} for {module}: save the adapter again")
        if both[side].shape != shape:
            raise CheckpointError(
                f"{file}: lora_{side} of {module} has the shape {list(both[side].shape)}, and rank {rank} on "
                f"{checkpoint.source} takes {list(shape)}: take the checkpoint that the adapter was trained on"
            )
    return Pair(both["A"], both["B"], config.scale(module))


def _by_pattern(patterns: Mapping[str, Number] | None, module: str, default: Number) -> Number:
    """The value of the first pattern that means the module."""
    return next((each for key, each in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _ends(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")
