"""One service for all tests that do not break it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints import write_slow
from tests.e2e.serving import Service, pack, serve


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BentoML home with the demo model packed as demo-llama:test."""
    home = tmp_path_factory.mktemp("bentoml-home")
    pack(home)
    return home


@pytest.fixture(scope="session")
def service(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("service") / "log.txt"
    with serve(home, log) as service:
        service.wait_ready()
        yield service


@pytest.fixture(scope="session")
def slow_model(home: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tag of a model that takes milliseconds a token and does not end by itself."""
    return pack(home, "slow-llama:test", write_slow(tmp_path_factory.mktemp("slow-llama")))
