"""Canaries: what bento_trtllm/bento takes for granted of BentoML and of what it brings, each by the name of a patch.

Each was read in the version that requirements.txt pins. After an upgrade, a red one says which file here to read again
beside the library's source; the end-to-end tests that it names show whether the promise still holds. Those of uvicorn's
protocol are in test_protocol.py, those of circus' sockets in test_arbiter.py.
"""

import inspect
import signal
from pathlib import Path

import bentoml
import click
import prometheus_client
import pytest
import uvicorn
from _bentoml_impl.server import app as bentoml_app
from _bentoml_impl.server import mount, serving
from _bentoml_impl.worker import service as bentoml_worker
from _bentoml_sdk import io_models
from _bentoml_sdk.service import factory
from bentoml import Tag
from bentoml._internal.configuration import containers
from bentoml._internal.server import base_app
from bentoml._internal.server.http import instruments
from bentoml._internal.server.metrics.prometheus import PrometheusClient
from bentoml._internal.utils import circus as bentoml_circus
from bentoml._internal.utils.uri import join_paths
from circus.arbiter import Arbiter
from circus.controller import Controller
from circus.sighandler import SysHandler
from circus.util import synchronized
from circus.watcher import Watcher
from opentelemetry.instrumentation import asgi
from prometheus_client import mmap_dict, multiprocess, values

from bento_trtllm.bento.metric_files import BESIDE_KEY, FIRST_BYTES, HEAD
from bento_trtllm.bento.store import FOLDERS
from bento_trtllm.bento.traffic import untimed
from bento_trtllm.metrics.prometheus import TokenHistogram
from tests.support.canary import expect, takes, unpatched


def test_a_canary_can_fail() -> None:
    with pytest.raises(AssertionError, match=r"Watcher.call_hook .* no longer says 'no such words': look at here"):
        expect(Watcher.call_hook, "no such words", look="here")
    with pytest.raises(AssertionError, match="out of order"):
        expect(Watcher.call_hook, "self.hooks[hook_name]", "def call_hook", look="out of order")
    with pytest.raises(AssertionError, match="look at here"):
        takes(Watcher.call_hook, "self", "name", look="here")


def test_arbiter_signals() -> None:
    """circus' handlers are methods of a SysHandler, whose arbiter has the workers' process ids."""
    look = "bento/arbiter.py, forward_signals; tests/service/test_lifecycle.py"
    takes(SysHandler.signal, "self", "sig", "frame", look=look)
    expect(SysHandler.__init__, "self.controller = controller", look=look)
    expect(SysHandler._register, "self._old[sig] = signal.getsignal(sig)", "signal.signal(sig, self.signal)", look=look)
    assert signal.SIGHUP in SysHandler.SIGNALS, look
    assert {signal.SIGTERM, signal.SIGINT} <= set(SysHandler.SIGNALS), look
    expect(Watcher.__init__, "self.processes = {}", look=look)
    # Handlers first, then the loop: a callback that was put there before finds them in place.
    expect(Controller.__init__, "self._init_syshandler()", look=look)
    expect(Controller._init_syshandler, "self.sys_hdl = SysHandler(self)", look=look)
    expect(Arbiter._init_context, "self.ctrl = Controller(", look=look)
    expect(Arbiter.start, "self.start_io_loop()", look=look)


def test_arbiter_stop() -> None:
    """BentoML's arbiter stops by circus' own stop, which is the one that tells the workers."""
    look = "bento/arbiter.py, patch_arbiter; bento/shutdown.py; tests/service/test_lifecycle.py"
    assert bentoml_circus.Arbiter.__mro__[1] is Arbiter, look
    expect(bentoml_circus.Arbiter.__init__, "super().__init__(*args, **kwargs)", look=look)
    expect(bentoml_circus.Arbiter.stop, "return super().stop()", look=look)
    takes(Arbiter.stop, "self", look=look)
    # Watchers have a process' environment in `env` until they start it.
    expect(Watcher.__init__, "self.env.update(env)", look=look)
    expect(Watcher.spawn_process, "env=self.env", look=look)


def test_refusal_hook() -> None:
    """circus calls after_reap with the exit code, and raises the exception that it was left."""
    look = "bento/refusal.py, heed_refusals; tests/service/test_refusals.py"
    expect(Watcher.reap_process, '"exit_code": exit_code', 'self.call_hook("after_reap"', look=look)
    expect(Watcher.call_hook, "result = self.hooks[hook_name](**hook_kwargs)", look=look)
    expect(Arbiter.__init__, "self._exception = None", look=look)
    expect(Arbiter.start, "if self._exception is not None:", "exc, self._exception = self._exception, None", look=look)
    expect(synchronized, "raise ConflictError(", look=look)
    expect(bentoml_circus.Arbiter.start, "if exc := fut.exception(): raise exc", look=look)


def test_refusal_sentence() -> None:
    """BentoML's command line lets click show an exception of click's, and end with its code."""
    look = "bento/refusal.py, Refused; tests/service/test_refusals.py"
    expect(click.Command.main, "except ClickException as e:", "e.show", "e.exit_code", look=look)
    takes(click.ClickException.show, "self", "file", look=look)


def test_hooks_of_a_deployment() -> None:
    """What `prepare` does is done in the process of `bentoml serve`, before there is an arbiter."""
    look = "service.py, prepare; bento/arbiter.py; bento/pinned.py; tests/service/test_refusals.py"
    expect(serving.server_on_deployment, '"__bentoml_deployment_hook__"', look=look)
    expect(serving.serve_http, "server_on_deployment(svc)", "create_standalone_arbiter(", look=look)
    # Workers inherit the environment that it leaves them.
    expect(serving.serve_http, "server_on_deployment(svc)", "env = {", look=look)


def test_worker_index() -> None:
    """A worker knows that it is one before the service is imported."""
    look = "service.py, its first lines; bento/privacy.py; tests/service/test_strangers.py"
    expect(
        bentoml_worker.main.callback,
        "server_context.worker_index = worker_id",
        "service = load(bento_identifier",
        "service.to_asgi(",
        "uvicorn.Config(",
        look=look,
    )


def test_worker_server() -> None:
    """A worker serves with uvicorn's own protocol and signals, at a socket that listens before the service starts."""
    look = "bento/protocol.py, install; bento/connections.py; bento/shutdown.py"
    source = inspect.getsource(bentoml_worker.main.callback)
    assert "http=" not in source, f"BentoML names a protocol: look at {look}"
    expect(bentoml_worker.main.callback, "socket.socket(fileno=fd)", "run(sockets=[socket])", look=look)
    takes(uvicorn.Server.run, "self", "sockets", look=look)


def test_methods() -> None:
    """BentoML asks the instance for the method that is called, each time."""
    look = "bento/garbage.py, make_once; tests/unit/bento/test_garbage.py"
    expect(bentoml_app.ServiceAppFactory.api_endpoint, "getattr(self._service_instance, name).local", look=look)


def test_shutdown_signals() -> None:
    """uvicorn's handlers are functions in place when the application starts, and a second SIGINT drops answers."""
    look = "bento/shutdown.py, Drain; tests/service/test_lifecycle.py"
    server = unpatched("uvicorn.server").Server
    expect(server.capture_signals, "signal.signal(sig, self.handle_exit)", look=look)
    expect(server.serve, "with self.capture_signals():", "await self._serve(sockets)", look=look)
    takes(server.handle_exit, "self", "sig", "frame", look=look)
    expect(server.handle_exit, "if self.should_exit and sig == signal.SIGINT:", "force_exit = True", look=look)
    expect(server._wait_tasks_to_complete, "while self.server_state.connections", look=look)


def test_tracing() -> None:
    """BentoML takes the middleware from the module when the application is made, and it can leave spans out."""
    look = "bento/tracing.py; tests/service/test_workers.py"
    expect(
        bentoml_app.ServiceAppFactory.middlewares.fget,
        "from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware",
        "Middleware(OpenTelemetryMiddleware,",
        look=look,
    )
    assert "exclude_spans" in inspect.signature(asgi.OpenTelemetryMiddleware.__init__).parameters, look
    assert "exclude_spans" not in inspect.getsource(bentoml_app.ServiceAppFactory), f"a setting of BentoML's? {look}"


def test_traffic() -> None:
    """BentoML counts requests by a middleware that it takes from the module, and labels them with the scope's path."""
    look = "bento/traffic.py; metrics/routes.py; tests/service/test_unknown_paths.py"
    expect(
        bentoml_app.ServiceAppFactory.middlewares.fget,
        "from bentoml._internal.server.http.instruments import (RunnerTrafficMetricsMiddleware,)",
        "Middleware(RunnerTrafficMetricsMiddleware,",
        look=look,
    )
    takes(instruments.RunnerTrafficMetricsMiddleware.__init__, "self", "app", look=look)
    takes(instruments.RunnerTrafficMetricsMiddleware.__call__, "self", "scope", "receive", "send", look=look)
    expect(instruments.RunnerTrafficMetricsMiddleware.__call__, 'endpoint = scope["path"]', look=look)


def test_order_of_middlewares() -> None:
    """Ours stand behind BentoML's counting and its timeout, and before the routes."""
    look = "service.py, add_asgi_middleware; api/guard.py, api/envelope.py; tests/service/test_clients.py"
    expect(
        bentoml_app.ServiceAppFactory.middlewares.fget,
        "RunnerTrafficMetricsMiddleware",
        "OpenTelemetryMiddleware",
        "middlewares.extend(super().middlewares)",
        "for middleware_cls, options in self.service.middlewares:",
        "Middleware(ContextMiddleware",
        look=look,
    )


def test_time_limit() -> None:
    """BentoML takes the middleware that ends long requests from its module when the application is made."""
    look = "bento/traffic.py, untimed; service.py, traffic"
    expect(
        vars(base_app.BaseAppFactory)["middlewares"].fget,
        "from .http.traffic import TimeoutMiddleware",
        "Middleware(TimeoutMiddleware, timeout=self.timeout)",
        look=look,
    )

    async def app(*_: object) -> None:
        """An application."""

    assert untimed(app, timeout=1) is app


def test_probes_and_metrics() -> None:
    """The service's own words for /readyz and /metrics."""
    look = "service.py, __is_ready__ and __metrics__; tests/service/test_pod.py, test_metrics.py"
    expect(bentoml_app.ServiceAppFactory.readyz, "await self._service_instance.__is_ready__()", look=look)
    expect(
        bentoml_app.ServiceAppFactory.metrics, '"__metrics__"', 'await func(metrics_content.decode("utf-8"))', look=look
    )


def test_what_is_made_later() -> None:
    """What a service mounts, and its middlewares, are asked for before it starts; a lifespan of theirs begins after."""
    look = "bento/later.py; service.py, its last lines; swap/front.py"
    middlewares = bentoml_app.ServiceAppFactory.middlewares.fget
    expect(mount.PassiveMount.matches, "isinstance(self.app, Starlette)", "for route in self.app.routes:", look=look)
    expect(
        bentoml_app.ServiceAppFactory.lifespan,
        "await self.create_instance(app)",
        "for mount_app, *_ in self.service.mount_apps:",
        "mount_app.router.lifespan_context(mount_app)",
        look=look,
    )
    expect(middlewares, "for middleware_cls, options in self.service.middlewares:", look=look)
    expect(factory.Service.schema, "for mounted_app, mount_path_prefix, _ in self.mount_apps:", look=look)
    expect(
        factory.Service.mount_asgi_app,
        "self.mount_apps.append((app, join_paths(self.path_prefix, path), name))",
        look=look,
    )
    expect(factory.Service.add_asgi_middleware, "self.middlewares.append((middleware_cls, options))", look=look)
    assert join_paths("", "/") == "/", look


def test_pages() -> None:
    """What is mounted comes before BentoML's own page, which loads Swagger UI from /static_content."""
    look = "api/web.py; tests/browser"
    expect(
        bentoml_app.ServiceAppFactory.__call__,
        "for mount_app, path, name in self.service.mount_apps:",
        'build_path("static_content")',
        'build_path("/")',
        look=look,
    )
    expect(bentoml_app.ServiceAppFactory.openapi_spec_view, "self.service.openapi_spec.asdict()", look=look)


def test_streams_end_without_a_word() -> None:
    """BentoML ends a stream that fails as if it were whole, unless it is no Exception that ends it."""
    look = "api/errors.py, StreamCut; tests/service/test_ends.py"
    expect(
        io_models.IOMixin.to_http_response,
        "async def async_stream()",
        "except Exception:",
        "StreamingResponse(async_stream()",
        look=look,
    )


def test_metric_files() -> None:
    """Values find their file's class in the module when they are made; its inside is what ReservedDict replaces."""
    look = "bento/metric_files.py; tests/unit/bento/test_metric_files.py, tests/service/test_full_disk.py"
    expect(values.MultiProcessValue, "files[file_prefix] = MmapedDict(filename)", look=look)
    takes(mmap_dict.MmapedDict.__init__, "self", "filename", "read_mode", look=look)
    takes(mmap_dict.MmapedDict.write_value, "self", "key", "value", "timestamp", look=look)
    takes(mmap_dict.MmapedDict._init_value, "self", "key", look=look)
    for name in ("_f", "_m", "_capacity", "_positions", "_used"):
        expect(mmap_dict.MmapedDict.__init__, f"self.{name} = ", look=look)
    assert mmap_dict._INITIAL_MMAP_SIZE == FIRST_BYTES, look
    expect(mmap_dict.MmapedDict._init_value, "padded = encoded + (b' ' * (8 - (len(encoded) + 4) % 8))", look=look)
    # A length, at most 8 bytes of padding, two doubles.
    assert BESIDE_KEY >= 4 + 8 + 16, look
    expect(mmap_dict.MmapedDict.__init__, "self._used = 8", look=look)
    assert HEAD == 8, look
    # What is replaced reads all files twice: once for an order that is lost, once for the exposition.
    expect(
        PrometheusClient.generate_latest,
        "for metric in registry.collect():",
        "metric.samples.sort(key=self._histogram_sample_sort_key)",
        "return self.prometheus_client.generate_latest(registry)",
        look=look,
    )


def test_metrics_of_the_dead() -> None:
    """The files of a process that was killed are found by their names."""
    look = "metrics/prometheus.py, _forget_the_dead; tests/unit/test_telemetry.py"
    expect(values.MultiProcessValue, "'{}_{}.db'.format(file_prefix, pid['value'])", look=look)
    takes(multiprocess.mark_process_dead, "pid", look=look)


def test_histograms() -> None:
    """One that is filled at once. It stays in metrics/, on which bento/ stands: it bends nothing that others use."""
    look = "metrics/prometheus.py, TokenHistogram; tests/unit/test_telemetry.py"
    histogram = TokenHistogram("canary", "text", buckets=(1.0, 2.0), registry=None)
    assert len(histogram._buckets) == 3, look
    expect(prometheus_client.Histogram.observe, "self._sum.inc(amount)", "self._buckets[i].inc(1)", look=look)


def test_store() -> None:
    """What is written beside BentoML's back is where and as BentoML reads it."""
    look = "bento/store.py; tests/unit/test_pack.py"
    names = {"module", "api_version", "signatures", "labels", "metadata", "context"}
    assert names <= set(inspect.signature(bentoml.Model.create).parameters), look
    takes(bentoml.models.BentoModel.resolve, "self", "base_path", look=look)
    tag = Tag("name", "version")
    assert (tag.path(), tag.latest_path()) == (str(Path("name/version")), str(Path("name/latest"))), look
    source = inspect.getsource(containers)
    for folder in (*FOLDERS, "models"):
        assert f'os.path.join(bentoml_home, "{folder}")' in source, look
    assert 'os.path.join(os.path.expanduser("~"), "bentoml")' in source, look


def test_environment_of_workers() -> None:
    """grpc reads its own as it is loaded, so BentoML sets it for its workers."""
    look = "service.py, envs; triton/wire/probe.py, GRPC_ENVIRONMENT; tests/unit/test_grpc.py"
    expect(serving.serve_http, "for env_var in svc.envs:", look=look)
