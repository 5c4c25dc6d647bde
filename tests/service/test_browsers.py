"""A page of another site can't drive a service without keys; programs and the service's own pages can use it."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bento_trtllm.api.pages import STATIC
from tests.support.serving import Service, serve
from tests.support.wire import ask, get, post

BODY = json.dumps({"prompt": "hi", "max_tokens": 2}).encode()
CHAT = json.dumps({"model": "demo-llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}).encode()
ROUTES = {"/generate": BODY, "/v1/chat/completions": CHAT, "/v1/models": None, "/metrics": None, "/docs.json": None}


def request(path: str, host: str, *lines: str) -> bytes:
    body = ROUTES.get(path)
    whole = get(path, *lines) if body is None else post(path, body, *lines)
    return whole.replace(b"host: localhost", f"host: {host}".encode())


def port(service: Service) -> int:
    return int(service.url.rpartition(":")[2])


@pytest.mark.parametrize("path", ROUTES)
def test_a_name_that_was_made_to_lead_here_is_refused(service: Service, path: str) -> None:
    """DNS rebinding: to the browser, the page's own site is this machine."""
    for host in (f"evil.example:{port(service)}", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example"):
        answer = ask(service.url, request(path, host, f"origin: http://{host}"))
        assert answer.status == 403
        error = answer.json()["error"]
        assert "allowed_hosts" in error["message"]
        assert host in error["message"]


@pytest.mark.parametrize("path", ROUTES)
def test_a_page_of_another_site_is_refused(service: Service, path: str) -> None:
    here = f"127.0.0.1:{port(service)}"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"http://localhost:{port(service)}"):
        answer = ask(service.url, request(path, here, f"origin: {origin}"))
        assert answer.status == 403
        assert "allowed_origins" in answer.json()["error"]["message"]
    preflight = get(path, "origin: http://evil.example").replace(b"GET", b"OPTIONS")
    answer = ask(service.url, preflight)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ROUTES)
def test_programs_and_pages_of_the_service_are_answered(service: Service, path: str) -> None:
    own = port(service)
    names = ("localhost", "127.0.0.1", "[::1]", "a.localhost", "LOCALHOST", "10.1.2.3", socket.gethostname())
    for name in names:
        assert ask(service.url, request(path, f"{name}:{own}")).status == 200, name
        assert ask(service.url, request(path, f"{name}:{own}", f"origin: http://{name}:{own}")).status == 200, name
    if ROUTES[path] is None:
        assert ask(service.url, f"GET {path} HTTP/1.0\r\n\r\n".encode()).status == 200


def test_probes_are_asked_by_any_name(service: Service) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        assert ask(service.url, request(path, "bento-trtllm.default.svc")).status == 200


@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/completions"])
def test_a_body_without_a_type_is_refused(service: Service, path: str) -> None:
    """A page of any site can send one without asking first."""
    bare = post(path, BODY).replace(b"content-type: application/json\r\n", b"")
    answer = ask(service.url, bare)
    assert answer.status == 415
    assert "content-type: application/json" in answer.json()["error"]["message"]


def test_a_type_that_is_there_twice_is_refused(service: Service) -> None:
    """BentoML reads the first of them."""
    for kind in ("application/vnd.bentoml+pickle", "multipart/form-data", "application/json"):
        answer = ask(service.url, post("/generate", BODY, f"content-type: {kind}"))
        assert answer.status == 400
        assert "content-type" in answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def elsewhere() -> str:
    """An address of this machine that is not a loopback one."""
    found = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == socket.AF_INET and not each.address.startswith("127.")
    ]
    if not found:
        pytest.skip("this machine has no address but the loopback one")
    return found[0]


@pytest.fixture(scope="module")
def public(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that listens on all addresses."""
    with serve(home, tmp_path_factory.mktemp("public") / "log.txt", "--host", "0.0.0.0") as service:
        service.wait_ready()
        yield service


def test_elsewhere_any_name_is_answered(public: Service, elsewhere: str) -> None:
    """As in a container or behind a load balancer, which have names of their own."""
    url = f"http://{elsewhere}:{port(public)}"
    assert ask(url, request("/generate", "llama.example", "origin: https://console.example")).status == 200
    assert ask(public.url, request("/generate", "llama.example")).status == 403


def test_settings_say_who_may(home: Path, tmp_path: Path, elsewhere: str) -> None:
    env: dict[str, Any] = {
        "TRTLLM_ALLOWED_HOSTS": "Llama.example, other.example",
        "TRTLLM_ALLOWED_ORIGINS": "https://chat.example:8443",
    }
    with serve(home, tmp_path / "log.txt", "--host", "0.0.0.0", **env) as service:
        service.wait_ready()
        for url in (service.url, f"http://{elsewhere}:{port(service)}"):
            assert ask(url, request("/generate", "llama.example:80")).status == 200
            assert ask(url, request("/generate", elsewhere)).status == 200
            assert ask(url, request("/generate", "evil.example")).status == 403
            assert ask(url, request("/generate", "llama.example", "origin: https://chat.example:8443")).status == 200
            assert ask(url, request("/generate", "llama.example", "origin: https://chat.example")).status == 403


def preflight(path: str, origin: str) -> bytes:
    """What a browser asks before a page's request."""
    lines = ("access-control-request-method: POST", "access-control-request-headers: authorization,x-stainless-os")
    return get(path, f"origin: {origin}", *lines).replace(b"GET", b"OPTIONS")


def test_with_keys_only_the_key_counts(home: Path, tmp_path: Path) -> None:
    """A page of another site does not have it. Its browser lets it read what it gets where a setting names it."""
    page, line = "https://chat.example", "authorization: Bearer secret"
    with serve(home, tmp_path / "log.txt", TRTLLM_API_KEYS="secret", TRTLLM_ALLOWED_ORIGINS=page) as service:
        service.wait_ready()
        for path in ("/generate", "/v1/chat/completions"):
            asked = ask(service.url, preflight(path, page))
            assert asked.status == 200
            assert asked.headers["access-control-allow-origin"] == page
            assert asked.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
            assert "POST" in asked.headers["access-control-allow-methods"]
            refused = ask(service.url, preflight(path, "https://a.example"))
            assert refused.status == 400
            assert refused.json()["error"]["type"] == "invalid_request_error"
            assert "access-control-allow-origin" not in refused.headers

            answer = ask(service.url, request(path, "llama.example", f"origin: {page}", line))
            assert answer.status == 200
            assert answer.headers["access-control-allow-origin"] == page
            assert "x-request-id" in answer.headers["access-control-expose-headers"]
            assert answer.headers["vary"].lower() == "origin"
            other = ask(service.url, request(path, "llama.example", "origin: https://a.example", line))
            assert other.status == 200
            assert "access-control-allow-origin" not in other.headers
            # A page reads why it is refused, too.
            keyless = ask(service.url, request(path, "localhost", f"origin: {page}"))
            assert (keyless.status, keyless.headers["access-control-allow-origin"]) == (401, page)


def test_nobody_reads_across_origins_by_default(service: Service) -> None:
    here = f"http://127.0.0.1:{port(service)}"
    for path in ROUTES:
        answer = ask(service.url, request(path, f"127.0.0.1:{port(service)}", f"origin: {here}"))
        assert not [name for name in answer.headers if name.startswith("access-control")]


# Its first line says where it comes from.
LIBRARY = (STATIC / "markdown-it.js").read_text("utf-8").partition("\n")[0]


def test_pages_call_no_other_host(service: Service) -> None:
    """Whatever is in them; what a browser really asks for is in test_chat_page.py."""
    for path in ("/", "/chat"):
        page = httpx.get(service.url + path)
        policy = page.headers["content-security-policy"]
        sources = {source for part in policy.split("; ") for source in part.split(" ")[1:]}
        hashes = {source for source in sources if source.startswith("'sha256-")}
        assert sources - hashes <= {"'none'", "'self'", "'unsafe-inline'", "data:"}
        assert "https://" not in page.text.replace(LIBRARY, "")
        assert httpx.head(service.url + path).headers["content-security-policy"] == policy
    specification = httpx.get(f"{service.url}/docs.json").json()
    assert "/generate" in specification["paths"]
    assert "http" not in specification["info"]["description"]
