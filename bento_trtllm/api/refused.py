"""Fields that mean something on other servers which is not done here: refused with a reason."""

from typing import Any

from pydantic import ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


def because(why: str) -> WrapValidator:
    """Of a field's type: says why of all values that it does not take."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValueError as error:
            raise PydanticCustomError("unsupported_value", "{why}", {"why": why}) from error

    return WrapValidator(check)
