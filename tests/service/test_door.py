"""Triton's gRPC port for other programs: closed unless it is asked for, and locked where other machines reach it."""

import queue
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from tests.support.demo import ANSWERS, PROMPT
from tests.support.ensemble import text_input
from tests.support.refusal import refused_serve
from tests.support.serving import ROOT, Service, free_port, is_engine, serve
from tests.support.tiny import until

KEY = "2b7e.1516-28ae_d2a6~abf7/1588+09cf="
HEADER = {"triton-grpc-protocol-infer-key": KEY}
MODELS = ("tensorrt_llm", "preprocessing", "postprocessing", "ensemble")


def stubs(service: Service) -> list[psutil.Process]:
    return [p for p in service.process.children(recursive=True) if p.name().startswith("triton_python_b")]


def models(address: str) -> set[str]:
    with closing(grpcclient.InferenceServerClient(address)) as client:
        return {name for name in MODELS if client.is_model_ready(name)}


def test_without_a_door_the_engine_is_the_only_model(service: Service) -> None:
    assert models(service.grpc_address()) == {"tensorrt_llm"}
    assert [is_engine(stub) for stub in stubs(service)] == [True]


def test_with_a_door_there_are_nvidias_four(open_service: Service) -> None:
    assert models(open_service.grpc_address()) == set(MODELS)
    assert len(stubs(open_service)) == 3
    assert hosts(open_service) == {"127.0.0.1"}


def hosts(service: Service) -> set[str]:
    """Where Triton listens for gRPC."""
    (triton,) = service.tritons()
    port = int(service.grpc_address().rpartition(":")[2])
    listening = [c.laddr for c in triton.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return {ip.removeprefix("::ffff:") for ip, number in listening if number == port}


def test_the_client_of_our_documents(open_service: Service) -> None:
    program = (ROOT / "docs" / "deploy.md").read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    here = program.replace("localhost:8001", open_service.grpc_address())
    assert here != program
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ANSWERS["Say hello in French"]


@dataclass
class Locked:
    """A service that other machines reach, and its port."""

    service: Service
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def locked(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    port = free_port()
    options = ("--arg", f"grpc_port={port}", "--arg", "grpc_address=0.0.0.0", "--arg", "triton_log_verbose=1")
    log = tmp_path_factory.mktemp("locked") / "log.txt"
    with serve(home, log, *options, TRTLLM_GRPC_KEY=KEY) as service:
        service.wait_ready()
        yield Locked(service, port)


def answer(address: str, headers: dict[str, str]) -> str:
    """By NVIDIA's client, as its documentation shows it. Raises InferenceServerException."""
    replies: queue.Queue[Any] = queue.Queue()
    inputs = []
    for name, kind, value in (
        ("text_input", "BYTES", np.array([[text_input(PROMPT).encode()]], object)),
        ("max_tokens", "INT32", np.array([[1024]], np.int32)),
        ("stream", "BOOL", np.array([[True]])),
    ):
        inputs.append(grpcclient.InferInput(name, [1, 1], kind))
        inputs[-1].set_data_from_numpy(value)
    text = b""
    with grpcclient.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: replies.put((result, error)), headers=headers)
        with suppress(InferenceServerException):  # the stream was refused already: why comes to the callback
            client.async_stream_infer("ensemble", inputs, enable_empty_final_response=True)
        final = False
        while not final:
            result, error = replies.get(timeout=60)
            if error is not None:
                raise error
            if (piece := result.as_numpy("text_output")) is not None:
                text += piece.reshape(-1)[0]
            final = result.get_response().parameters["triton_final_response"].bool_param
    return text.decode()


def test_the_key_opens(locked: Locked) -> None:
    assert hosts(locked.service) <= {"0.0.0.0", "::"}
    assert answer(locked.address, HEADER) == ANSWERS[PROMPT]
    with closing(grpcclient.InferenceServerClient(locked.address)) as client:
        assert client.get_model_metadata("ensemble", headers=HEADER).name == "ensemble"
        assert client.get_model_config("ensemble", headers=HEADER).config.name == "ensemble"


@pytest.mark.parametrize("headers", [{}, {"triton-grpc-protocol-infer-key": "wrong"}, {"authorization": KEY}])
def test_nothing_else_does(locked: Locked, headers: dict[str, str]) -> None:
    with pytest.raises(InferenceServerException, match="restricted"):
        answer(locked.address, headers)
    with closing(grpcclient.InferenceServerClient(locked.address)) as client:
        calls: list[Callable[[], Any]] = [
            lambda: client.infer("ensemble", [], headers=headers),
            lambda: client.get_server_metadata(headers=headers),
            lambda: client.get_model_metadata("ensemble", headers=headers),
            lambda: client.get_model_config("ensemble", headers=headers),
        ]
        for call in calls:
            with pytest.raises(InferenceServerException, match="restricted"):
                call()
        # A probe has no key, here as over HTTP.
        assert client.is_server_ready(headers=headers)


@pytest.mark.parametrize("method", ["unload_model", "update_trace_settings", "get_inference_statistics"])
def test_the_key_opens_nothing_that_changes_the_server(locked: Locked, method: str) -> None:
    arguments = ("ensemble",) if method == "unload_model" else ()
    client = grpcclient.InferenceServerClient(locked.address)
    with closing(client), pytest.raises(InferenceServerException, match="restricted"):
        getattr(client, method)(*arguments, headers=HEADER)


def test_the_service_has_the_key_itself(locked: Locked) -> None:
    response = httpx.post(f"{locked.service.url}/generate", json={"prompt": PROMPT}, timeout=60)
    assert (response.status_code, response.text) == (200, ANSWERS[PROMPT])


def test_two_services_cannot_share_a_port(locked: Locked, home: Path) -> None:
    said = refused_serve(home, "model=demo-llama:test", f"grpc_port={locked.port}")
    where = f"127.0.0.1:{locked.port} (grpc_address, grpc_port)"
    assert said == f"error: Triton cannot listen at {where}: another program listens there.\n"


def test_a_door_to_the_network_wants_a_key(home: Path) -> None:
    said = refused_serve(home, "model=demo-llama:test", f"grpc_port={free_port()}", "grpc_address=0.0.0.0")
    assert said == "error: grpc_address=0.0.0.0 lets other machines run prompts without a key: give grpc_key as well\n"


def test_a_restart_keeps_the_port(locked: Locked) -> None:
    """Also one that finds the port taken meanwhile: it says so, and waits for it. The last test of this service."""
    (triton,) = locked.service.tritons()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        triton.kill()
        until(lambda: bound(other, locked.port))
        other.listen()
        until(lambda: "another program listens there" in httpx.get(f"{locked.service.url}/readyz").text, 60)
    locked.service.wait_ready()
    assert answer(locked.address, HEADER) == ANSWERS[PROMPT]
    assert KEY not in locked.service.log.read_text()


def bound(each: socket.socket, port: int) -> bool:
    try:
        each.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
