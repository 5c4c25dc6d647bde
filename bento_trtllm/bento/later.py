"""A list of BentoML's that is filled when BentoML first looks at it."""

from collections import UserList
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

T = TypeVar("T")


class Later(UserList[T]):
    """What a service mounts, or its middlewares: the process of `bentoml serve` looks at neither (1.4.40)."""

    def __init__(self, make: Callable[[], list[T]]) -> None:
        self._make = make

    @cached_property
    def data(self) -> list[T]:  # type: ignore[override]
        """The list itself."""
        return self._make()
