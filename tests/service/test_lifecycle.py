"""Commands from start to end: what they start, what they say, and that nothing is left."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from bento_trtllm.bento.shutdown import CLOSE_S, SAME_SIGNAL_S
from bento_trtllm.manifest import Manifest
from tests.support.asking import read_events, stream_events
from tests.support.demo import ANSWERS, PROMPT
from tests.support.launcher import bound
from tests.support.limits import LIMIT_S
from tests.support.processes import left_over, peers, traces, workers
from tests.support.refusal import refused_serve
from tests.support.serving import DEMO, ROOT, SSE, Service, environment, free_port, pack, serve
from tests.support.tiny import until
from tests.support.wire import ask, connect, get, parse, post, receive


def listening(pids: set[int] | None = None) -> set[int]:
    """TCP ports that somebody, or one of these processes, listens on."""
    sockets = psutil.net_connections("tcp")
    return {
        c.laddr.port for c in sockets if c.laddr and c.status == psutil.CONN_LISTEN and (pids is None or c.pid in pids)
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(home: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C, as a terminal sends it to the whole process group, and `kill`. The packed model was only read."""
    packed = home / "models" / "demo-llama" / "test"

    def state() -> dict[str, tuple[int, int]]:
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in packed.rglob("*")}

    before = state()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with serve(home, tmp_path / "log.txt", TMPDIR=str(temporary), TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        family = left_over(str(tmp_path))
        ports = listening({p.pid for p in family})
        assert {int(url.rpartition(":")[2]) for url in (service.url, service.grpc_address())} < ports
        (triton,) = (a.partition("=")[2] for a in service.tritons()[0].cmdline() if a.startswith("--id="))
        assert traces(temporary, triton)
        assert len(family) >= 5  # bentoml, a worker, the reaper, Triton, its engine
        assert read_events(stream_events(service, {"prompt": "hi", "max_tokens": 2}))[0]
        if number == signal.SIGINT:
            os.killpg(service.process.pid, number)
            code = service.process.wait(LIMIT_S)
        else:
            code = service.stop(number)
    assert code == 0
    assert left_over(str(tmp_path)) == []
    assert traces(temporary, triton) == []
    assert not ports & listening()
    assert state() == before
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_nothing_but_the_api_listens_beyond_loopback(service: Service) -> None:
    family = {process.pid for process in service.processes()}
    sockets = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.pid in family]
    assert len(sockets) >= 3
    assert {c.laddr.ip.removeprefix("::ffff:") for c in sockets if c.laddr} <= {"127.0.0.1", "::1"}


def test_setting_that_the_engine_must_not_have_is_refused_at_once(home: Path) -> None:
    said = refused_serve(home, "model=demo-llama:test", "enable_kv_cache_reuse=true")
    assert said.startswith("error: enable_kv_cache_reuse=true is refused with the OpenVINO engine: ")


def test_model_that_cannot_be_loaded_is_reported_in_its_own_words(home: Path, tmp_path: Path) -> None:
    """Not a damaged one, which is refused, but one that was packed so. Tried a few times it has failed."""
    tag = pack(home, "broken-llama:test")
    packed = home / "models" / "broken-llama" / "test"
    (packed / "engine" / "openvino_model.xml").write_text("<net, it says")
    Manifest.read(packed).write(packed)
    log = tmp_path / "log.txt"
    delays = ("--arg", "restart_first_delay_s=0.1", "--arg", "restart_max_delay_s=1")
    with serve(home, log, "--arg", f"model={tag}", *delays, "--arg", "restart_failures_before_failed=2") as service:
        deadline = time.monotonic() + LIMIT_S
        while "failed: 2 times in a row" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "failed: 2 times in a row; next start in 1 s" in log.read_text()
        assert "could not load model tensorrt_llm" in log.read_text()
        assert "openvino_model.xml" in log.read_text()
        response = httpx.get(f"{service.url}/readyz", timeout=LIMIT_S)
        assert response.status_code == 503
        assert "(failed)" in response.text
        assert "could not load model tensorrt_llm" in response.text
        assert httpx.get(f"{service.url}/livez").status_code == 200
        assert httpx.post(f"{service.url}/generate", json={}).status_code == 503
        assert service.stop() == 0


def test_scripts_serve_sets_up_packs_and_serves(tmp_path: Path) -> None:
    """The README's first command, in this checkout, with an empty model store."""
    port = free_port()
    argv = [str(ROOT / "scripts" / "serve"), "--port", str(port), "--host", "127.0.0.1", "--workers", "2"]
    log = tmp_path / "log.txt"
    with log.open("wb") as output:
        env = environment(tmp_path / "home", TEST_MARKER=str(tmp_path))
        process = psutil.Popen(bound(argv), cwd=tmp_path, env=env, stdout=output, stderr=output, start_new_session=True)
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        service.wait_ready(120)
        text, _ = read_events(stream_events(service, {"prompt": PROMPT}))
        assert text == ANSWERS[PROMPT]
        assert len(service.tritons()) == 1
    finally:
        code = service.stop(signal.SIGTERM)
    assert code == 0
    assert left_over(str(tmp_path)) == []


def test_open_streams_may_finish_while_the_service_stops(home: Path, slow_model: str, tmp_path: Path) -> None:
    with serve(home, tmp_path / "log.txt", "--arg", f"model={slow_model}", python=sys.executable) as service:
        service.wait_ready()
        body = {"prompt": PROMPT, "max_tokens": 60}
        with httpx.stream("POST", f"{service.url}/generate", json=body, headers=SSE, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            service.process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert rest[-2] == "data: [DONE]"
        assert service.process.wait(LIMIT_S) == 0


def test_streams_are_cut_with_an_error_after_the_grace_time(home: Path, slow_model: str, tmp_path: Path) -> None:
    options = ("--arg", f"model={slow_model}", "--arg", "drain_timeout_s=1")
    with serve(home, tmp_path / "log.txt", *options, python=sys.executable) as service:
        service.wait_ready()
        body = {"prompt": PROMPT, "max_tokens": 1024}
        with httpx.stream("POST", f"{service.url}/generate", json=body, headers=SSE, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            service.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-2] == "event: error"
        assert "stopping" in rest[-1]
        assert service.process.wait(LIMIT_S) == 0


@contextmanager
def met(service: Service) -> Iterator[list[httpx.Client]]:
    """Kept connections, at least one to each worker."""

    def worker_of(response: httpx.Response) -> int:
        _, port = response.extensions["network_stream"].get_extra_info("client_addr")
        (pid,) = (pid for pid in workers(service) if port in peers(psutil.Process(pid)))
        return pid

    with ExitStack() as stack:
        clients: list[httpx.Client] = []
        found: set[int] = set()
        while found != workers(service):
            assert len(clients) < 500
            clients.append(stack.enter_context(httpx.Client(base_url=service.url, timeout=LIMIT_S)))
            found.add(worker_of(clients[-1].get("/livez")))
        yield clients


@pytest.mark.parametrize(("count", "everybody"), [(2, False), (1, True)], ids=["first", "all"])
def test_whoever_comes_while_the_service_stops_is_told(
    home: Path, slow_model: str, tmp_path: Path, count: int, everybody: bool
) -> None:
    """On new connections and old ones, as long as an answer is open; and then there is nobody to connect to.

    A SIGTERM to all processes at once, as systemd sends it, is one to the first.
    """
    options = ("--arg", f"model={slow_model}", "--arg", f"workers={count}", "--arg", "drain_timeout_s=60")
    log = tmp_path / "log.txt"
    chat = {"model": "slow-llama", "messages": [{"role": "user", "content": PROMPT}]}
    questions = [("/generate", {"prompt": PROMPT}), ("/v1/chat/completions", chat), ("/readyz", None)]
    cut = (httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)

    def ask(client: httpx.Client, path: str, body: object) -> httpx.Response:
        return client.get(path) if body is None else client.post(path, json=body)

    def stop() -> None:
        for process in [service.process, *(service.process.children(recursive=True) if everybody else ())]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)

    with serve(home, log, *options, TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        # A worker that still starts when it is told to stop ends at once, and with it who has just come to it.
        until(lambda: log.read_text().count("Completed async startup hook: start") == count)
        long = {"model": "slow-llama", "prompt": PROMPT, "max_tokens": 8000, "stream": True}
        with (
            met(service) as kept,
            httpx.stream("POST", f"{service.url}/v1/completions", json=long, timeout=LIMIT_S) as open_,
        ):
            assert open_.status_code == 200
            lines = open_.iter_lines()
            next(lines)
            stop()
            signalled = time.monotonic()
            for client in kept:
                # One is told a moment after another, and answers until then; but nobody who comes is cut off.
                while (old := client.get("/readyz")).status_code == 200:
                    assert httpx.get(f"{service.url}/livez", timeout=LIMIT_S).status_code == 200
                    time.sleep(0.02)
                assert old.status_code == 503
                assert "stopping" in old.text
            took: list[float] = []
            while not took or time.monotonic() - signalled < SAME_SIGNAL_S + 2:
                for path, question in questions:
                    asked = time.monotonic()
                    with httpx.Client(base_url=service.url, timeout=LIMIT_S) as client:
                        response = ask(client, path, question)
                    assert response.status_code == 503, path
                    assert "stopping" in response.text
                    if question:
                        assert int(response.headers["retry-after"]) >= 1
                        assert response.headers["connection"] == "close"
                    took.append(time.monotonic() - asked)
                assert next(line for line in lines if line).startswith("data: {")
            assert len(took) >= len(questions)
            assert min(took) < 1
            stop()
            rest = [line for line in lines if line]
        # Not at the answer's own end.
        assert '"error"' in rest[-1]
        assert "stopping" in rest[-1]

        def gone() -> bool:
            try:
                response = httpx.get(f"{service.url}/readyz", timeout=LIMIT_S)
            except cut:
                return True
            assert response.status_code == 503
            return False

        until(gone)
        time.sleep(2 * CLOSE_S)  # one worker stops to listen a moment after another
        deadline = time.monotonic() + LIMIT_S
        while service.process.poll() is None and time.monotonic() < deadline:
            with pytest.raises(cut):
                httpx.get(f"{service.url}/livez", timeout=LIMIT_S)
            time.sleep(0.05)
        assert service.process.wait(LIMIT_S) == 0
    assert left_over(str(tmp_path)) == []


def test_a_stop_does_not_wait_for_a_body_that_never_comes(home: Path, tmp_path: Path) -> None:
    with serve(home, tmp_path / "log.txt", "--arg", "body_timeout_s=3600", "--arg", "workers=1") as service:
        service.wait_ready()
        with connect(service.url) as connection:
            connection.sendall(post("/generate", b"").replace(b"content-length: 0", b"content-length: 9"))
            ask(service.url, get("/readyz"))  # which is read after it
            service.process.send_signal(signal.SIGTERM)
            answer = parse(receive(connection))
        assert (answer.status, answer.headers["connection"]) == (503, "close") and b"stopping" in answer.body
        assert service.process.wait(LIMIT_S) == 0


def test_a_worker_that_is_told_alone_leaves_the_others_their_socket(home: Path, tmp_path: Path) -> None:
    """And the one in its place, which serves at the same socket."""
    with serve(home, tmp_path / "log.txt", "--arg", "workers=2") as service:
        service.wait_ready()
        victim = next(p for p in service.process.children() if any("worker.service" in a for a in p.cmdline()))
        victim.terminate()
        victim.wait(LIMIT_S)
        service.wait_ready()
        for _ in range(10):
            assert read_events(stream_events(service, {"prompt": PROMPT}))[0] == ANSWERS[PROMPT]
        assert service.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_cuts_open_streams_at_once(home: Path, slow_model: str, tmp_path: Path, number: int) -> None:
    """`kill` twice, and Ctrl-C twice, which a terminal sends to the whole process group."""
    options = ("--arg", f"model={slow_model}", "--arg", "drain_timeout_s=60")
    with serve(home, tmp_path / "log.txt", *options, TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()

        def send() -> None:
            if number == signal.SIGINT:
                os.killpg(service.process.pid, number)
            else:
                service.process.send_signal(number)

        body = {"prompt": PROMPT, "max_tokens": 1024}
        with (
            httpx.stream("POST", f"{service.url}/generate", json=body, headers=SSE, timeout=60) as response,
            httpx.stream("POST", f"{service.url}/generate", json=body, timeout=60) as bare,
        ):
            lines, pieces = response.iter_lines(), bare.iter_text()
            next(lines)
            next(pieces)
            send()
            # What comes within a second is the same signal by another way. The streams go on meanwhile.
            going_on_s, began = SAME_SIGNAL_S + 2, time.monotonic()
            while time.monotonic() - began < going_on_s:
                assert next(lines) != "event: error"
            send()
            rest = [line for line in lines if line]
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
        # Long before the time to drain, and the answers' own end.
        assert rest[-2] == "event: error"
        assert "stopping" in rest[-1]
        assert service.process.wait(LIMIT_S) == 0
    assert left_over(str(tmp_path)) == []


def test_killing_bentoml_itself_ends_everything(home: Path, tmp_path: Path) -> None:
    """Its workers would live on: nobody is left to tell them."""
    with serve(home, tmp_path / "log.txt", TEST_MARKER=str(tmp_path)) as service:
        service.wait_ready()
        service.process.kill()
        deadline = time.monotonic() + LIMIT_S
        while left_over(str(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left_over(str(tmp_path)) == []


def test_demo_is_small() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir()) <= 6_000_000
