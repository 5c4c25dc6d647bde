"""A wrong keys.yaml ends no service that runs, whichever worker dies meanwhile; it is no service's first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.limits import LIMIT_S
from tests.support.processes import alone, owner, workers
from tests.support.refusal import refused_serve
from tests.support.serving import Service, serve
from tests.support.tiny import until

ADMIN = {"authorization": "Bearer the-admin-key"}


def write_key(path: Path, name: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(f"keys: [{{name: {name}, key: sk-{name}-0123456789}}]")
    draft.replace(path)


def status(service: Service, name: str) -> int:
    headers = {"authorization": f"Bearer sk-{name}-0123456789"}
    return httpx.get(f"{service.url}/v1/models", headers=headers, timeout=LIMIT_S).status_code


def fault(service: Service) -> str:
    shown: dict[str, Any] = httpx.get(f"{service.url}/admin.json", headers=ADMIN, timeout=LIMIT_S).json()
    return str(shown["keys_file_fault"])


def replaced(service: Service) -> int:
    """Kill the worker that does not own Triton; returns the one that takes its place."""
    before = workers(service)
    (other,) = before - {owner(service).pid}
    psutil.Process(other).kill()
    until(lambda: len(workers(service) - before) == 1 and other not in workers(service), LIMIT_S)
    return (workers(service) - before).pop()


def test_a_worker_that_comes_while_the_file_is_wrong_has_the_keys_of_the_others(home: Path, tmp_path: Path) -> None:
    keys, log = tmp_path / "keys.yaml", tmp_path / "log.txt"
    write_key(keys, "first")
    options = ("--arg", "workers=2", "--arg", f"keys_file={keys}")
    with serve(home, log, *options, TRTLLM_ADMIN_KEY="the-admin-key") as service:
        service.wait_ready()
        until(lambda: len(workers(service)) == 2, LIMIT_S)
        write_key(keys, "second")  # what is kept is not what the service began with
        until(lambda: log.read_text().count("was read again: it has 1 key") == 2, LIMIT_S)
        faults: list[tuple[Callable[[], object], str]] = [
            (lambda: keys.write_text("keys: ["), "is not YAML"),
            (keys.unlink, "cannot be read: No such file or directory"),
        ]
        for spoil, said in faults:
            spoil()
            with alone(service, replaced(service)):
                until(lambda: status(service, "second") == 200, LIMIT_S)
                assert (status(service, "first"), status(service, "unknown")) == (401, 401)
                until(lambda: said in fault(service), LIMIT_S)  # noqa: B023  it is called at once
                metrics = httpx.get(f"{service.url}/metrics", headers=ADMIN, timeout=LIMIT_S).text
                assert "trtllm_keys_file_valid 0" in metrics
            assert service.process.poll() is None
        write_key(keys, "third")
        (later,) = workers(service) - {owner(service).pid}
        with alone(service, later):
            until(lambda: status(service, "third") == 200, LIMIT_S)
            assert (status(service, "second"), fault(service)) == (401, "")
        assert service.stop() == 0
    assert "error: " not in log.read_text()


def test_no_service_starts_with_a_wrong_file(home: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    model, given = "model=demo-llama:test", f"keys_file={keys}"
    sentence = f"error: the file of named keys, {keys}, cannot be read: No such file or directory\n"
    assert refused_serve(home, model, given) == sentence
    keys.write_text("keys: [")
    assert refused_serve(home, model, given).endswith(f"{keys}, line 1, is not YAML\n")
