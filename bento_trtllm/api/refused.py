"""Fields for what other servers do and this one does not: refused with a reason."""

from typing import Annotated, Any

from pydantic import ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


def because(why: str) -> WrapValidator:
    """For a field's type: gives this reason for every value that the type does not take."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValueError as error:
            raise PydanticCustomError("unsupported_value", "{why}", {"why": why}) from error

    return WrapValidator(check)


NotHere = Annotated[None, because("this server does not do that")]
"""The type of a field that has no reason of its own."""
