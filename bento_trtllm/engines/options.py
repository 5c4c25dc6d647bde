"""An engine's packing options: one pydantic model per engine, which pack_model.py turns into command-line options."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from bento_trtllm.errors import EngineError


class EngineOptions(BaseModel):
    """The options of one engine; a field's description is its help."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def make(cls, **values: Any) -> Self:
        """Make options from what was given; None means not given. Raises EngineError."""
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{name}: " for name in first["loc"])
            raise EngineError(f"{where}{first['msg'].removeprefix('Value error, ')}") from error
