"""What stands before every route: who may ask, the size of the body, clients that leave."""

import asyncio
from contextlib import suppress

from bento_trtllm.api import rates
from bento_trtllm.api.access import METRICS, Access
from bento_trtllm.api.asgi import App, Message, Receive, Scope, Send, respond
from bento_trtllm.api.browsers import Browsers
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.headers import check_type, read_headers
from bento_trtllm.generation.client import CLIENT
from bento_trtllm.generation.leaving import LEAVING, Leaving
from bento_trtllm.keys.ledger import ACCOUNT
from bento_trtllm.metrics import routes
from bento_trtllm.metrics.inference_pool import PATH as OTHER_PATH

# nginx's code for it; it is only ever seen in the access log.
CLIENT_GONE = APIError(499, "client_closed_request", "The client closed the connection.")
UNHEARD = "2.4"
"""The version of ASGI since which an application need not listen for a client that leaves: here it is cancelled.

Told 2.3, as uvicorn says (0.54), Starlette (1.10) listens, in a task group for each streamed answer. Of one that is
cancelled, anyio (4.16) keeps the exception in a frame of its own traceback, and with it all that the request had.
"""


class Guard:
    """ASGI middleware. A request whose client leaves is cancelled at once, even before its first byte of answer."""

    def __init__(self, app: App, *, access: Access, max_body_bytes: int, browsers: Browsers) -> None:
        self._app = app
        self._browsers = browsers
        self._access = access
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == OTHER_PATH:
            scope = {**scope, "path": METRICS, "raw_path": METRICS.encode()}
        routes.ROUTE.set(routes.label(scope["path"]))
        try:
            headers = read_headers(scope)
            if not self._access.keyring:
                self._browsers.check(scope, headers)
            client, account = self._access.enter(scope, headers)
            if account and scope["path"] in routes.ANSWERS:
                send = rates.showing(send, account)
            self._check_size(headers)
            check_type(scope, headers)
        except APIError as error:
            await respond(send, error)
            return
        CLIENT.set(client)
        ACCOUNT.set(account)
        await self._run(scope, receive, send)

    def _check_size(self, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> APIError:
        return APIError(413, "body_too_large", f"The body is over {self._max_body_bytes} bytes: send less.")

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application in a task of its own, which ends when the client has gone."""
        loop = asyncio.get_running_loop()
        connection = Connection(receive, send, self._max_body_bytes, loop)
        LEAVING.set(connection.leaving)
        scope = {**scope, "asgi": {**scope.get("asgi", {}), "spec_version": UNHEARD}}
        serving = loop.create_task(self._app(scope, connection.receive, connection.send))
        connection.serve(serving)
        try:
            await serving
        except asyncio.CancelledError:
            if not connection.gone:
                serving.cancel()
                raise
            if not connection.started:
                # Sent even though nobody is there: it is what the access log says of this request.
                error = self._too_large() if connection.oversized else CLIENT_GONE
                await respond(send, error)
        finally:
            connection.close()


class Connection:
    """One request's receive and send, watched. `gone` says that the client is."""

    def __init__(self, receive: Receive, send: Send, max_body_bytes: int, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._send = send
        self._left = max_body_bytes
        self._loop = loop
        self._serving: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._complete = False
        self.leaving = Leaving()
        self.started = False
        self.oversized = False

    @property
    def gone(self) -> bool:
        return self._gone.is_set()

    def serve(self, serving: "asyncio.Task[None]") -> None:
        """The task to cancel when the client has gone."""
        self._serving = serving

    async def receive(self) -> Message:
        """The application's receive: the body, counted; after it, the client's leaving."""
        if self._watching is None:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
            else:
                self._left -= len(message.get("body", b""))
                if self._left < 0:
                    self.oversized = True
                    self._leave()
                elif not message.get("more_body", False):
                    self._watching = self._loop.create_task(self._watch())
            return message
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """The application's send; it waits while the client does not read."""
        self.started = True
        # What follows the last chunk (logging, background tasks) is not cut short by a client that has all it wants.
        self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    def close(self) -> None:
        """The response is over."""
        if self._watching:
            self._watching.cancel()

    async def _watch(self) -> None:
        with suppress(asyncio.CancelledError):
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._leave()

    def _leave(self) -> None:
        if self._complete:
            return
        self._gone.set()
        self.leaving.tell()
        if self._serving:
            self._serving.cancel()
