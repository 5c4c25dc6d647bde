"""A packed model in service: its tokenizer, the Triton that runs it, and streams of text from both."""

from contextlib import suppress
from pathlib import Path

from bento_trtllm.api.errors import unavailable
from bento_trtllm.api.stream import TextStreams
from bento_trtllm.config import Settings
from bento_trtllm.errors import TritonError
from bento_trtllm.manifest import Manifest
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from bento_trtllm.triton.client import TritonClient
from bento_trtllm.triton.repository import place_repository
from bento_trtllm.triton.supervisor import Supervisor

FIRST_WAIT_S = 10


class LLM:
    """One a worker. Raises StoreError or CheckpointError for a packed model that cannot be served."""

    def __init__(self, packed: Path, settings: Settings) -> None:
        self.manifest = Manifest.read(packed)
        self.tokenizer = PromptTokenizer(packed / "tokenizer")
        self.template = ChatTemplate(packed / "tokenizer", self.tokenizer)
        self.streams = TextStreams(self.manifest, self.tokenizer, self.client)
        self._client: tuple[str, TritonClient] | None = None
        self._supervisor = Supervisor(lambda folder: place_repository(packed, folder, settings.parameters()), settings)

    async def start(self) -> None:
        """Launch Triton, or join the one that another worker launched. Does not fail where Triton does."""
        await self._supervisor.start()
        # Requests that come early wait in the socket's queue for a model that loads quickly; others get a 503.
        with suppress(TritonError):
            await self._supervisor.wait_ready(FIRST_WAIT_S)

    async def stop(self) -> None:
        """Close the channel, and end Triton with the last worker."""
        if self._client:
            await self._client[1].close()
        await self._supervisor.stop()

    @property
    def ready(self) -> bool:
        """Whether the engine answers."""
        return self._supervisor.state == "ready"

    def client(self) -> TritonClient:
        """The channel to the Triton of now. Raises APIError (503) where there is none."""
        endpoint = self._supervisor.endpoint
        if endpoint is None:
            raise unavailable(f"The engine is not ready: {self._supervisor.reason}")
        if self._client is None or self._client[0] != endpoint:
            self._client = (endpoint, TritonClient(endpoint))
        return self._client[1]
