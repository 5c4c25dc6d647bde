"""Probes one Triton's health over gRPC, on the same path that requests take."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from bento_trtllm.triton.wire import engine_errors
from bento_trtllm.triton_models.shared.faults import UNAVAILABLE

CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # $http_proxy is not meant for 127.0.0.1
    ("grpc.use_local_subchannel_pool", 1),  # otherwise a new channel inherits an old one's backoff
)

# BentoML sets it for its workers, since grpc reads it when it is loaded. With the "event engine", grpc-python's default
# since 2026, a message passes through one more thread, and a token costs a sixth more CPU (docs/performance.md).
GRPC_ENVIRONMENT = [{"name": "GRPC_EXPERIMENTS", "value": "-event_engine_client"}]

END_LIMIT_S = 10.0
"""How long Triton has to end a call whose last response has come, or may be on its way: it is cancelled only then.

A call that is cancelled while its last response is written waits in Triton for a response that has long been there, for
ever: Triton keeps the request, with that the model, and stops by its exit timeout (HandleCancellation of
src/grpc/infer_handler.h in triton-inference-server/server, r24.10).
"""


class Health:
    """A gRPC channel for probing Triton, to be used in one event loop; an async context manager."""

    def __init__(self, address: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        """`metadata` is what Triton requires with each call."""
        # Imported late: it costs 0.2 s, which Triton's own start hides.
        import grpc.aio  # noqa: PLC0415
        from tritonclient.grpc import service_pb2, service_pb2_grpc  # noqa: PLC0415

        self._failure = (grpc.aio.AioRpcError, asyncio.TimeoutError)
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._messages: Any = service_pb2
        self._metadata = metadata

    async def ready(self, server_id: str, models: Sequence[str], deadline_s: float) -> bool:
        """Whether this is the server with that id, not another program on its port, and is ready with all models.

        False also if there is no answer within the deadline.
        """
        try:
            request = self._messages.ServerMetadataRequest()
            metadata = await self._stub.ServerMetadata(request, timeout=deadline_s, metadata=self._metadata)
            if metadata.name != server_id or not await self.answers(deadline_s):
                return False
            for model in models:
                request = self._messages.ModelReadyRequest(name=model)
                if not (await self._stub.ModelReady(request, timeout=deadline_s)).ready:
                    return False
        except self._failure:
            return False
        return True

    async def answers(self, deadline_s: float) -> bool:
        """Whether Triton reports within the deadline that it is ready."""
        try:
            request = self._messages.ServerReadyRequest()
            return bool((await self._stub.ServerReady(request, timeout=deadline_s)).ready)
        except self._failure:
            return False

    async def engine_answers(self) -> bool:
        """Whether the engine answers a request, even with an error; waits until it does.

        False if it takes no requests: Triton, or the thread that queues requests, says so in its place.
        """
        from bento_trtllm.triton.wire.codec import probe  # noqa: PLC0415  as above

        call = self._stub.ModelStreamInfer(iter([probe()]), metadata=self._metadata)
        try:
            reply = await call.read()
            # An end without a response is an answer, too: Triton sends it when the engine has sent its own.
            ended = not isinstance(reply, self._messages.ModelStreamInferResponse)
            return ended or engine_errors.read(reply.error_message).code != UNAVAILABLE
        except self._failure:
            return False
        finally:
            asyncio.get_running_loop().call_later(END_LIMIT_S, call.cancel)

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> "Health":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
