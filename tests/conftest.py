"""One service of each engine for all tests that do not break it."""

import gc
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx._config as httpx_config
import httpx._transports.default as httpx_transport
import pytest

from tests.support.checkpoints import write_checkpoint
from tests.support.launcher import LOGS
from tests.support.limits import ERRORS, LIMIT_S, STALL_S
from tests.support.llmapi import place as llmapi
from tests.support.serving import MACHINES, Service, free_port, pack, pack_slow, serve
from tests.support.shares import Shares, later
from tests.support.standin.place import ENGINES, Standin

OPENVINO = "openvino"
PYTORCH = llmapi.ENGINE
SLOW_STEP_S = 0.02
LOG_LINES = 60
TLS = "create_ssl_context"
OF_PYTORCH = ("ends", "faults", "leaving", "generate", "openai_completions", "openai_chat")
"""Files of promises that the PyTorch engine is held to: the others say nothing of it that these do not."""


def pytest_configure() -> None:
    """What tests start hears Ctrl-C, also where a shell started the tests in the background, which has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # By default a client waits for 5 s, in which a machine with others on it may not answer.
    for wait in ("connect", "read", "write", "pool"):
        setattr(httpx_config.DEFAULT_TIMEOUT_CONFIG, wait, LIMIT_S)
    # Containers often have Python keep nothing that it has compiled: then each process of each run rewrites the asserts
    # of all test modules anew, for 1.3 s of CPU time. What tests start has the environment as it was.
    sys.dont_write_bytecode = False
    # A client's TLS context takes 27 ms of CPU to make, and no test speaks TLS: one is enough for all clients.
    setattr(httpx_transport, TLS, cache(getattr(httpx_transport, TLS)))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """To import all modules takes 6 s, in which nothing else runs where only those that measure are asked for."""
    only = config.option.markexpr == "measured" and collection_path.suffix == ".py"
    return True if only and "measured" not in collection_path.read_text("utf-8") else None


def pytest_collection_finish() -> None:
    """Modules and tests, 500,000 objects, stay: to walk over them when garbage is collected took a process 1.5 s."""
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test, or a file of tests, marked `engines` states a promise that all of them keep; others take the CPU's."""
    of_its_own = any("engine" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "engine" in metafunc.fixturenames and not of_its_own:
        marker = metafunc.definition.get_closest_marker("engines")
        file = metafunc.module.__name__.rpartition(".test_")[2]
        all_engines = (OPENVINO, *ENGINES, PYTORCH) if file in OF_PYTORCH else (OPENVINO, *ENGINES)
        engines = (marker.args or all_engines) if marker else (OPENVINO,)
        metafunc.parametrize("engine", engines, scope="session", indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: later(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    """However tests are shared out among processes, it is so."""
    return Shares(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """What failed says what the services wrote meanwhile: theirs may be the fault, which may not come again."""
    report = yield
    if report.failed:
        for log in LOGS:
            if log.exists() and log.stat().st_mtime >= call.start:
                report.sections.append((str(log), told(log)))
    return report


def told(log: Path) -> str:
    """The last lines of a service's log, without those of requests that it answered."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if "(status=200," not in line]
    return "\n".join(lines[-LOG_LINES:])


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """OPENVINO, PYTORCH, or one of the stand-in's."""
    return str(request.param)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A BentoML home for each engine, with the demo model packed as demo-llama:test."""

    @cache
    def made(engine: str) -> Path:
        home = tmp_path_factory.mktemp("bentoml-home")
        if engine == PYTORCH:
            MACHINES[home] = llmapi.LLMAPI(tmp_path_factory.mktemp("llmapi"))
        elif engine != OPENVINO:
            MACHINES[home] = Standin(tmp_path_factory.mktemp("standin"), ENGINES[engine])
        pack(home)
        return home

    return made


@pytest.fixture(scope="session")
def home(engine: str, homes: Callable[[str], Path]) -> Path:
    return homes(engine)


Services = Callable[[str], Service]
"""The service of an engine, started when it is first asked for."""


@contextmanager
def started(
    homes: Callable[[str], Path], logs: Path, options: Callable[[], tuple[str, ...]] = tuple
) -> Iterator[Services]:
    """A service for each engine, with such options of `bentoml serve`; all of them stay to the end."""
    with ExitStack() as stack:

        @cache
        def start(engine: str) -> Service:
            service = stack.enter_context(serve(homes(engine), logs / f"{engine}.txt", *options()))
            service.wait_ready()
            return service

        yield start


@pytest.fixture(scope="session")
def services(homes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with started(homes, tmp_path_factory.mktemp("service")) as services:
        yield services


@pytest.fixture(scope="session")
def service(engine: str, services: Services) -> Service:
    return services(engine)


@pytest.fixture(scope="session")
def open_services(homes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The same with a gRPC port for other programs, and so with the models that they send text to."""
    folder = tmp_path_factory.mktemp("open-service")
    with started(homes, folder, lambda: ("--arg", f"grpc_port={free_port()}")) as services:
        yield services


@pytest.fixture(scope="session")
def open_service(engine: str, open_services: Services) -> Service:
    return open_services(engine)


@pytest.fixture(scope="session")
def breakable_services(homes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services to break, again and again: what is ready for a second has its past forgiven."""
    settings = {"stall_limit_s": STALL_S, "restart_max_delay_s": 1, "engine_errors_before_restart": ERRORS}
    options = tuple(word for name, value in settings.items() for word in ("--arg", f"{name}={value}"))
    with started(homes, tmp_path_factory.mktemp("breakable"), lambda: options) as services:
        yield services


@pytest.fixture(scope="session")
def breakable_service(engine: str, breakable_services: Services) -> Service:
    return breakable_services(engine)


@pytest.fixture(scope="session")
def slow_models(homes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    def slow(engine: str) -> str:
        checkpoint = write_checkpoint(tmp_path_factory.mktemp("slow"), context=8192, endless=True)
        return pack_slow(homes(engine), "slow-llama:test", checkpoint, SLOW_STEP_S)

    return cache(slow)


@pytest.fixture(scope="session")
def slow_model(engine: str, slow_models: Callable[[str], str]) -> str:
    """The tag of a model that takes SLOW_STEP_S a token and does not end by itself."""
    return slow_models(engine)
