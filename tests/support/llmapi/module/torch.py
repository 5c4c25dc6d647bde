"""Of torch only what our model calls: a tensor is the numpy array that it is made of."""

from typing import Any


class Tensor:
    def __init__(self, array: Any) -> None:
        self.array = array


def from_numpy(array: Any) -> Tensor:
    return Tensor(array)
