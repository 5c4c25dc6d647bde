"""What is bent of circus, for the day on which it is made otherwise: then look at bento_trtllm/bento/arbiter.py."""

import inspect
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from circus.arbiter import Arbiter
from circus.controller import Controller

from bento_trtllm.bento.arbiter import LONGEST_SOCKET, _socket_folder
from tests.support.canary import expect, takes

MAKE = """
from bento_trtllm.bento.arbiter import patch_arbiter
from bentoml._internal.utils.circus import create_standalone_arbiter
patch_arbiter()
patch_arbiter()
for options in ({}, {}, {"threaded": True}, {"plugins": [{"use": "circus.plugins.CircusPlugin"}]}):
    arbiter = create_standalone_arbiter([], **options)
    print(arbiter.endpoint, arbiter.ctrl.endpoint, arbiter.pubsub_endpoint)
"""


def test_circus_binds_what_its_arbiter_is_given() -> None:
    look = "bento/arbiter.py, patch_arbiter; tests/service/test_strangers.py"
    takes(Arbiter.__init__, "self", "watchers", "endpoint", "pubsub_endpoint", look=look)
    expect(Controller, "ctrl_socket.bind(self.endpoint)", look=look)
    expect(Arbiter, "evpub_socket.bind(self.pubsub_endpoint)", look=look)
    bound = inspect.getsource(Controller).count(".bind(") + inspect.getsource(Arbiter).count(".bind(")
    assert bound == 2, f"circus binds more than it did: look at {look}"


def test_bentoml_makes_its_arbiter_through_ours() -> None:
    made = subprocess.run([sys.executable, "-c", MAKE], capture_output=True, text=True, timeout=60, check=True)
    lines = [line.split() for line in made.stdout.splitlines()]
    assert [line[0].partition("://")[0] for line in lines] == ["inproc", "inproc", "inproc", "ipc"]
    for commands, bound, events in lines:
        assert commands == bound
        assert commands.rpartition("/")[0] == events.rpartition("/")[0]
    assert len({line[0] for line in lines}) == 4


LISTEN = """
import sys
from bento_trtllm.bento.arbiter import patch_arbiter
from bento_trtllm.bento.refusal import Refused
from bentoml._internal.utils.circus import create_standalone_arbiter
from circus.sockets import CircusSocket
patch_arbiter()
arbiter = create_standalone_arbiter([], sockets=[CircusSocket("door", "127.0.0.1", int(sys.argv[1]))])
try:
    arbiter.start()
except Refused as error:
    print(error.exit_code, error.format_message())
"""


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        argv = [sys.executable, "-c", LISTEN, str(port)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"2 the service cannot listen at 127.0.0.1:{port}: Address already in use\n"
    expect(Arbiter.initialize, "self.sockets.bind_and_listen_all()", look="bento/arbiter.py, patch_arbiter")


@pytest.mark.parametrize(("name", "fits"), [("tmp", True), ("t" * 100, False)], ids=["short", "long"])
def test_sockets_have_a_folder_whose_name_fits(monkeypatch: pytest.MonkeyPatch, name: str, fits: bool) -> None:
    """A socket's name has at most 107 bytes, and a temporary folder may have more."""
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        (temporary := Path(parent) / name).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        folder = Path(_socket_folder())
        assert len(str(folder / "commands")) <= LONGEST_SOCKET
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.parent == (temporary if fits else Path("/tmp"))
        folder.rmdir()
        assert list(temporary.iterdir()) == []
