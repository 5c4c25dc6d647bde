"""HTTP on the wire, before any application sees it: limits on what one connection may use, and for how long.

uvicorn's httptools protocol has no limit of its own on a URL, headers, a request that never ends, or the number of
connections (0.54; `h11_max_incomplete_event_size` is for its other protocol). This adds them. What it expects of
uvicorn's classes is in tests/unit/bento/test_protocol.py, which fails by name if another version changes it.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal, cast

import httptools
from uvicorn.protocols.http import auto, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from bento_trtllm.api.errors import APIError, describe
from bento_trtllm.bento.backlog import Backlog
from bento_trtllm.bento.connections import open_files
from bento_trtllm.bento.cycle import MAX_DISCARDED_BYTES, EarlyCycle, cycle
from bento_trtllm.bento.peers import Peers
from bento_trtllm.bento.plain_error import plain_error
from bento_trtllm.bento.prompt_probes import PromptProbes
from bento_trtllm.config import ServingSettings
from bento_trtllm.generation.errors import Draining
from bento_trtllm.generation.turns import Turns

logger = logging.getLogger(__name__)

# The limits of nginx (large_client_header_buffers: 4 of 8 KiB) and Apache (LimitRequestFields 100).
MAX_URL_BYTES = 8 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
# Requests that may be pipelined behind one that is not answered yet. Browsers and client libraries send none.
MAX_PIPELINED = 8
BEGUN = 8  # requests in one turn of the event loop; uvicorn begins all that it has read
# A client that is refused in the middle of its request reads the response only if what it still sends is received.
LINGER_S = 2.0
MAX_LINGERING = 128

Phase = Literal["", "head", "body"]

BAD_REQUEST = APIError(400, "invalid_request", "This is not a valid HTTP request.")
URL_TOO_LONG = APIError(414, "url_too_long", f"The URL is over {MAX_URL_BYTES} bytes: send long values in the body.")
HEAD_TOO_LARGE = APIError(
    431, "headers_too_large", f"The headers are over {MAX_HEAD_BYTES} bytes, or more than {MAX_HEADERS}: send fewer."
)
BODY_TOO_LARGE = APIError(413, "body_too_large", "The body continues after its request was answered.")


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self, *args: Any, settings: ServingSettings, peers: Peers, probes: PromptProbes, turns: Turns, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._limits: dict[Phase, float] = {"head": settings.head_timeout_s, "body": settings.body_timeout_s}
        self._peers, self._probes, self._turns = peers, probes, turns
        self._phase: Phase = ""
        # Which request is being read, and which request and phase the timer is for.
        self._requests = 0
        self._watched: tuple[int, Phase] = (0, "")
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._header_count = 0
        # Bytes since a part of a request was last complete; the parser does not report a header before its end.
        self._unfinished = 0
        self._progress = self._prompt = False
        self._discarded = 0
        self._unanswered: list[RequestResponseCycle] = []
        self._why: APIError | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and start the timer for its first request."""
        super().connection_made(transport)
        try:
            self._peers.add(self, self.client[0] if self.client else None)
        except APIError as error:
            self._refuse(error)
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, for whatever reason."""
        # uvicorn notifies only the last request; earlier ones in the pipeline would keep running for no one.
        for each in self._unanswered:
            if not each.response_complete:
                each.disconnected = True
                each.message_event.set()
        super().connection_lost(exc)
        self._peers.remove(self)
        LINGERING.discard(self)
        self._stop_timer()
        # They know this connection, too: garbage that only the collector finds, in a pause for all streams.
        self._unanswered.clear()
        self.cycle = None  # type: ignore[assignment]

    def leave(self) -> None:
        """Make room for another connection."""
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """The client sent some bytes. Replaces uvicorn's own method, which has no limits."""
        if self._refused or self.transport.is_closing():
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._progress = self._prompt = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._why or BAD_REQUEST)
            return
        self._unfinished = 0 if self._progress else self._unfinished + len(data)
        if self._unfinished > MAX_HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)
            return
        self._watch()

    def _feed(self, data: bytes) -> None:
        """Parse. A request to upgrade to another protocol is served in this one, as RFC 9110, 7.8 allows.

        The parser takes what follows the headers for the other protocol. Java's client asks for HTTP/2 in this way with
        each POST, whose body would be lost: the request is parsed again without the upgrade header.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                head = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode()]
                headers = [(name, value) for name, value in self.headers if name != b"upgrade"]
                lines = [b"".join(head), *(name + b": " + value for name, value in headers), b"", b""]
                data = b"\r\n".join(lines) + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._peers.busy(self)
        self._requests += 1
        self._phase = "head"
        self._progress = True
        self._head_bytes = self._header_count = self._discarded = 0

    def on_url(self, url: bytes) -> None:
        too_long = len(self.url) + len(url) > MAX_URL_BYTES
        super().on_url(url[:MAX_URL_BYTES])
        if too_long:
            self._fail(URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        self._header_count += 1
        if self._head_bytes > MAX_HEAD_BYTES or self._header_count > MAX_HEADERS:
            self._fail(HEAD_TOO_LARGE)
        if self._phase == "head":  # trailers are dropped: the application has already read the headers
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._fail(BAD_REQUEST)
            return
        self._phase = "body"
        self._progress = True
        super().on_headers_complete()
        self._unanswered = [each for each in (*self._unanswered, self.cycle) if not each.response_complete]
        if len(self.pipeline) > MAX_PIPELINED:
            self._fail(BAD_REQUEST)

    def on_body(self, body: bytes) -> None:
        self._progress = True
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > MAX_DISCARDED_BYTES:
                self._fail(BODY_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._phase = ""
        self._progress = True
        super().on_message_complete()
        if isinstance(self.cycle, EarlyCycle) and self.cycle.closes_at_end:
            self.transport.close()
        elif not self._busy():
            self._peers.idle(self)  # the response was complete before the request

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Have the application answer, or here and now what can be: one of all that came at once, or none moves on."""
        answer = None if self._prompt or self.flow.write_paused else self._probes.app(cycle.scope)
        if answer is None:
            self._turns.begin(partial(super()._start_asgi_task, cycle, app))
            return
        self._prompt = True
        with suppress(StopIteration):
            cycle.run_asgi(cast("Any", answer)).send(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._busy() and not self._phase:
            self._peers.idle(self)

    def shutdown(self) -> None:
        """The worker ends: it does not wait for the rest of a request of which nothing was answered."""
        if self._phase == "body" and not (self.pipeline or self.cycle.response_started):
            self._refuse(describe(Draining()))
        else:
            super().shutdown()

    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def _watch(self) -> None:
        """Make sure that the timer is for what is being read now."""
        phase = self._phase
        if not phase:
            if self._busy():
                self._stop_timer()
                return
            phase = "head"  # of the next request, even if so far it is only line ends
        if (self._requests, phase) == self._watched and self._timer:
            return
        self._stop_timer()
        self._watched = (self._requests, phase)
        self._timer = self.loop.call_later(self._limits[phase], self._expire, phase)

    def _expire(self, phase: Phase) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self.pipeline or (phase == "head" and self._busy()):
            # It is not read while another request is being answered.
            self._watch()
        elif not self._phase or (phase == "body" and self.cycle.response_started):
            self.transport.close()
        else:
            what = "headers" if phase == "head" else "body"
            after = f"within {self._limits[phase]:g} seconds"
            self._refuse(APIError(408, "request_timeout", f"The {what} did not arrive {after}."))

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: APIError) -> None:
        """Stop the parser. The error that it then raises leads to `_refuse`."""
        self._why = error
        raise error

    def _refuse(self, error: APIError) -> None:
        """Answer with an error, read no more of the request, and close."""
        self._refused = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        client = self.client[0] if self.client else "a unix socket"
        logger.info("Refused a connection from %s: %s %s", client, error.status, error.message)
        reading = self._phase == "body" and self.cycle is not None and not self.pipeline
        # A response has been started or given.
        answered = self.cycle.response_started if reading else self._busy()
        if answered or len(LINGERING) >= MAX_LINGERING:
            self.transport.abort()
            return
        if reading:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(plain_error(error))
        LINGERING.add(self)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.loop.call_later(LINGER_S, self.transport.abort)
        else:
            self.transport.close()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > MAX_DISCARDED_BYTES:
            self.transport.abort()


LINGERING: set[BoundedProtocol] = set()
"""Connections that were refused and are still read from for a little while."""


def install(settings: ServingSettings, not_ready: Callable[[], str | None]) -> None:
    """Have uvicorn use it. Call it before the server is made, which happens once the service has been imported."""
    most, of_an_address = settings.connections()
    peers = Peers(min(most, open_files()), of_an_address)
    make = partial(BoundedProtocol, settings=settings, peers=peers, probes=PromptProbes(not_ready), turns=Turns(BEGUN))
    auto.AutoHTTPProtocol = cast("Any", Backlog(make))
    httptools_impl.RequestResponseCycle = cycle  # type: ignore[assignment, misc]
