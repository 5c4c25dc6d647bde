"""A model's process that is late while it loads, and that Triton gives up without letting it go."""

import asyncio
import logging
from pathlib import Path

import pytest

from bento_trtllm.config import TritonSettings
from bento_trtllm.triton.process import forsaken
from bento_trtllm.triton.process.server import TritonServer
from tests.support import tiny
from tests.support.limits import LIMIT_S

SETTINGS = TritonSettings(startup_timeout_s=4 * LIMIT_S, load_stall_limit_s=4 * LIMIT_S)


async def test_triton_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stub does not report for some seconds, as on a machine that is busy, and then is as well as before."""
    monkeypatch.setattr(forsaken, "LOOKS", 2)
    begun, may_end = tmp_path / "begun", tmp_path / "may-end"
    initialize = f"open({str(begun)!r}, 'w').close()\n"
    initialize += f"        while not os.path.exists({str(may_end)!r}): time.sleep(0.01)"
    repository = tiny.repository(tmp_path / "repository", initialize=initialize)
    (run := tmp_path / "run").mkdir()
    server = TritonServer(lambda _: repository, SETTINGS, parent=run)
    starting = asyncio.create_task(server.start())
    try:
        await asyncio.to_thread(tiny.until, begun.exists)
        (reaper,) = tiny.reapers(server.folder.name)
        (stub,) = tiny.stubs(server.folder.name)
        assert forsaken.waited_for(reaper.pid) == []
        stub.suspend()
        await asyncio.to_thread(tiny.until, lambda: forsaken.waited_for(reaper.pid) == [stub.pid])
        may_end.touch()
        stub.resume()
        await starting
        assert await asyncio.to_thread(lambda: list(tiny.echo(server.address, [7, 8]))) == [7, 8]
        assert not stub.is_running()
    finally:
        starting.cancel()
        await server.kill()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "Triton waits for a model's process that it has given up, and is started again" in said
    assert list(run.iterdir()) == []
