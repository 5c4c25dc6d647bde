"""An engine as one of its LoRA adapters: the same requests, with the adapter's number."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.source import TokenBatch, TokenRequest, TokenSource


@dataclass(frozen=True)
class Adapted:
    """A TokenSource. `source` returns the current engine; it may raise EngineUnavailable."""

    source: Callable[[], TokenSource]
    adapter: int

    def stream(
        self, request: TokenRequest, deadlines: Deadlines, began: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[TokenBatch]]:
        return self.source().stream(replace(request, adapter=self.adapter), deadlines, began)
