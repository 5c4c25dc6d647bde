"""What bento/protocol.py takes for granted of uvicorn, and peers.py: who gets a place."""

import inspect

import pytest
from uvicorn import Config
from uvicorn.protocols.http import auto, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from bento_trtllm.api.addresses import network
from bento_trtllm.api.errors import APIError
from bento_trtllm.bento.cycle import ClosingCycle, cycle
from bento_trtllm.bento.peers import Peers
from bento_trtllm.bento.protocol import BoundedProtocol, install
from bento_trtllm.config import Settings
from tests.support.canary import expect, takes

LOOK = "bento/protocol.py, BoundedProtocol; tests/service/test_wire.py"
OVERRIDDEN = [
    *("connection_made", "connection_lost", "data_received", "on_message_begin", "on_url", "on_header"),
    *("on_headers_complete", "on_body", "on_message_complete", "on_response_complete", "_unset_keepalive_if_required"),
    "_start_asgi_task",
    "shutdown",
]
ATTRIBUTES = ["transport", "parser", "pipeline", "cycle", "client", "loop", "headers"]
CYCLE_ATTRIBUTES = [
    *("response_started", "response_complete", "disconnected", "message_event", "keep_alive"),
    *("chunked_encoding", "expected_content_length", "transport", "scope", "more_body"),
]


async def app(scope: object, receive: object, send: object) -> None:
    """Nothing."""


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_uvicorn_has_the_method(name: str) -> None:
    assert hasattr(HttpToolsProtocol, name), f"uvicorn has no {name}: look at {LOOK}"
    takes(getattr(HttpToolsProtocol, name), *inspect.signature(getattr(BoundedProtocol, name)).parameters, look=LOOK)


async def test_uvicorn_has_the_attributes() -> None:
    protocol = HttpToolsProtocol(config=Config(app), server_state=ServerState(), app_state={})
    assert [name for name in ATTRIBUTES if not hasattr(protocol, name)] == [], LOOK
    protocol.on_message_begin()
    assert protocol.url == b"", LOOK
    for name in CYCLE_ATTRIBUTES:
        expect(RequestResponseCycle.__init__, f"self.{name}", look="bento/cycle.py; bento/protocol.py, _refuse")


def test_uvicorn_makes_cycles_by_the_name_that_is_replaced() -> None:
    """After it has set the version, which says of which kind one is to be."""
    expect(
        HttpToolsProtocol.on_headers_complete,
        'self.scope["http_version"] = http_version',
        "self.cycle = RequestResponseCycle(scope=",
        "expect_100_continue=",
        "keep_alive=",
        look="bento/cycle.py, cycle; tests/service/test_http10.py",
    )


def test_uvicorn_frames_bodies_as_expected() -> None:
    """A length that is known is checked, one that is not makes chunks: ClosingCycle goes between."""
    expect(
        RequestResponseCycle.send,
        "if self.chunked_encoding is None and",
        "self.expected_content_length -= num_bytes",
        look="bento/cycle.py, ClosingCycle.send; tests/service/test_http10.py",
    )
    assert inspect.iscoroutinefunction(ClosingCycle.send)


def test_uvicorn_closes_as_expected() -> None:
    """It tells the client of it with the head, and does it at the response's end: EarlyCycle goes between."""
    expect(
        RequestResponseCycle.send,
        "if not self.keep_alive and not has_connection_close:",
        "if not self.keep_alive: self.transport.close()",
        look="bento/cycle.py, EarlyCycle.send; tests/service/test_wire.py",
    )


def test_bentomls_server_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """BentoML names no protocol (_bentoml_impl/worker/service.py), so uvicorn takes the one that it finds."""
    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)
    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", RequestResponseCycle)
    install(Settings(), lambda: None)
    config = Config(app)
    config.load()
    protocol = config.http_protocol_class(config=config, server_state=ServerState(), app_state={}, _loop=object())  # type: ignore[call-arg]
    assert isinstance(protocol, BoundedProtocol)
    assert httptools_impl.RequestResponseCycle is cycle


class Connection:
    """A peer that notes whether it was told to leave."""

    gone = False

    def leave(self) -> None:
        self.gone = True


def test_the_longest_idle_leaves() -> None:
    peers = Peers(3, 3)
    first, second, third, fourth, fifth = (Connection() for _ in range(5))
    for peer in (first, second, third):
        peers.add(peer, "1.2.3.4")
    peers.busy(first)
    peers.busy(second)
    peers.idle(first)
    peers.add(fourth, "5.6.7.8")
    assert [peer.gone for peer in (first, second, third, fourth)] == [False, False, True, False]
    for peer in (first, fourth):
        peers.busy(peer)
    with pytest.raises(APIError, match="all are in use"):
        peers.add(fifth, "5.6.7.8")
    peers.remove(second)
    peers.remove(second)
    peers.add(fifth, "5.6.7.8")


def test_an_address_has_its_own_bound() -> None:
    peers = Peers(100, 2)
    some = [Connection() for _ in range(6)]
    peers.add(some[0], "2001:db8::1")
    peers.add(some[1], "2001:db8::2")
    with pytest.raises(APIError, match="2 connections open") as error:
        peers.add(some[2], "2001:db8::ffff:3")
    assert error.value.status == 429
    peers.add(some[3], "2001:db8:0:1::1")
    for peer in some[4:]:
        peers.add(peer, None)
        peers.idle(peer)
    peers.remove(some[0])
    peers.add(some[2], "2001:db8::3")


def test_networks() -> None:
    assert network("::ffff:10.0.0.1") == network("10.0.0.1") == "10.0.0.1"
    assert network("fe80::1%eth0") == network("fe80::2")
    assert network("10.0.0.1") != network("10.0.0.2")
    assert network(None) is None
    assert network("testclient") == "testclient"
