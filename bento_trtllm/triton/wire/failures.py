"""Answers that one Triton's engine failed: what each error means, and when Triton has to be restarted."""

import logging
from collections.abc import Callable

from bento_trtllm.generation.errors import EngineUnavailable, GenerationError, RequestRefused
from bento_trtllm.triton.wire import engine_errors
from bento_trtllm.triton_models.shared.faults import INVALID_REQUEST, UNAVAILABLE

LOGGER = logging.getLogger("bento_trtllm.triton")


class Failures:
    """Counts consecutive failures; requests that fail together, in one step of the engine, count once."""

    def __init__(self, limit: int = 0, condemn: Callable[[str], None] = lambda reason: None) -> None:
        """`condemn` is called once, with why: at the `limit`th failure in a row (0: never), or if the GPU is lost."""
        self._limit = limit
        self._condemn = condemn
        self._row = self._counted = 0
        self._condemned = False

    def meaning(self) -> Callable[[str], GenerationError]:
        """For a request that is sent now: turns the message with which Triton ends it into a typed error."""
        before = self._counted

        def meaning(message: str) -> GenerationError:
            fault = engine_errors.read(message)
            if fault.code == INVALID_REQUEST:
                return RequestRefused(fault.message, tensor=fault.tensor or None)
            if fault.code == UNAVAILABLE:
                return EngineUnavailable("The engine is not taking requests at the moment.")
            LOGGER.error("the engine failed a request: %s", message)
            if self._counted == before:  # else it may have been running at an earlier failure, and ended with it
                self._count(lost=engine_errors.is_lost(message))
            return EngineUnavailable("The engine failed: see the server's log.")

        return meaning

    def forget(self) -> None:
        """An answer succeeded."""
        self._row = 0

    def _count(self, lost: bool) -> None:
        self._counted += 1
        self._row += 1
        if self._condemned or not (lost or self._row == self._limit):
            return
        self._condemned = True
        many = f"{self._row} requests in a row" if self._row > 1 else "a request"
        self._condemn(f"The engine failed {many}" + (", and its GPU is lost." if lost else "."))
