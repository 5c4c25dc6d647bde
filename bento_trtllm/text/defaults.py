"""How an answer is sampled if the request does not say: the checkpoint's generation_config.json."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.files import read_json

FILE = "generation_config.json"


class _Generation(BaseModel):
    """Its fields about sampling. Numbers may be in quotes, as in some checkpoints."""

    do_sample: bool | None = None
    temperature: float | None = Field(None, ge=0, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = None
    repetition_penalty: float | None = Field(None, gt=0, allow_inf_nan=False)


@dataclass(frozen=True)
class Defaults:
    """Values for what a request leaves open."""

    temperature: float = 1.0
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None

    @classmethod
    def read(cls, directory: Path) -> "Defaults":
        """From a directory's generation_config.json; OpenAI's defaults if there is none.

        Raises CheckpointError for values that no request could have.
        """
        path = directory / FILE
        if not path.is_file():
            return cls()
        try:
            config = _Generation.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            where = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise CheckpointError(f"{path} cannot be used: {where}") from error
        if not config.do_sample:
            return cls(temperature=0.0, repetition_penalty=config.repetition_penalty)
        temperature = 1.0 if config.temperature is None else config.temperature
        return cls(temperature, config.top_p, config.top_k, config.repetition_penalty)
