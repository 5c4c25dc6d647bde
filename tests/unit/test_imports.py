"""What is left out of a start, whose time is mostly imports."""

import inspect
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from _bentoml_impl import server
from _bentoml_impl.server import app
from _bentoml_sdk import method

from tests.support.canary import expect

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "bento_trtllm" / "triton_models" / "openvino"


def imported(code: str, cwd: Path = ROOT) -> set[str]:
    """The modules that a Python has once it has run this."""
    argv = [
        sys.executable,
        "-c",
        f"import sys\n{code}\nprint(*(name for name, module in sys.modules.items() if module))",
    ]
    return set(subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True).stdout.split())


def test_an_engine_does_without_the_converter_of_models() -> None:
    names = imported("import lean, openvino_genai", FOLDER)
    assert "openvino_genai" in names
    assert not [name for name in names if name.startswith("openvino.tools")]


def test_packing_does_without_it_too() -> None:
    """It would tell Google Analytics of each time that it is imported."""
    modules = ["network", "trial", "detokenizer", "ir"]
    code = "\n".join(f"import bento_trtllm.engines.openvino.{name}" for name in modules)
    names = imported(f"{code}\nimport openvino_genai, openvino_tokenizers")
    assert {"openvino", "openvino_genai", "openvino_tokenizers"} <= names
    assert not [name for name in names if name.startswith(("openvino.tools", "openvino_telemetry"))]


MESSAGE = """
from bento_trtllm.triton.wire.model_config import pb
assert not {"grpc", "numpy", "tritonclient.grpc"} & set(sys.modules)
config = pb.ModelConfig(name="engine")
import tritonclient.grpc
from tritonclient.grpc import model_config_pb2, service_pb2
assert model_config_pb2 is pb
assert service_pb2.ModelConfigResponse(config=config).config == config
"""


def test_a_message_of_tritons_needs_no_client_and_is_the_one_that_a_client_has() -> None:
    assert "grpc" in imported(MESSAGE)


def test_a_worker_imports_grpc_when_triton_loads() -> None:
    names = imported("import bento_trtllm.swap.front")
    assert "bento_trtllm.llm" in names
    assert "grpc" not in names


STREAM = """
import asyncio
from starlette.responses import StreamingResponse
from bento_trtllm.bento.later import import_backend

async def parts():
    yield "text"

async def stream():
    import_backend()
    before = set(sys.modules)
    async def receive():
        await asyncio.Event().wait()
    async def send(message):
        sent.append(message)
    await StreamingResponse(parts())({"type": "http"}, receive, send)
    assert not {*sys.modules} - before, {*sys.modules} - before

sent = []
asyncio.run(stream())
assert b"text" in [message.get("body") for message in sent]
"""


def test_the_first_stream_of_a_worker_imports_nothing() -> None:
    assert "anyio._backends._asyncio" in imported(STREAM)


def test_a_worker_launches_triton_before_it_has_fastapi() -> None:
    names = imported("import bento_trtllm.bento.later, bento_trtllm.bento.protocol, bento_trtllm.swap.serving")
    assert not {"fastapi", "grpc"} & names


def test_openvino_does_without_it_where_it_cannot_be_imported() -> None:
    spec = find_spec("openvino")
    assert spec and spec.origin
    tried, _, _ = Path(spec.origin).read_text().rpartition("except ImportError:")
    assert tried.rstrip().endswith("from openvino.tools.ovc import convert_model"), (
        "look at triton_models/openvino/lean.py"
    )


WORKER = """
from bento_trtllm.bento.unneeded import leave_out
leave_out()
from _bentoml_impl.server.app import create_proxy_app
import _bentoml_impl.client
assert not {"aiohttp", "pyparsing", "circus"} & set(sys.modules)
import bentoml
create_proxy_app(bentoml.service(cmd=["true"])(type("Other", (), {})))
"""


def test_a_worker_imports_what_bentoml_seldom_uses_when_it_is_called() -> None:
    names = imported(WORKER)
    assert {"aiohttp", "pyparsing"} <= names
    assert "circus" not in names


def test_bentoml_takes_these_functions_from_these_modules() -> None:
    look = "bento/unneeded.py"
    source = inspect.getsource(app)
    assert "from _bentoml_impl.server.proxy import create_proxy_app\n" in source, f"look at {look}"
    assert source.count("server.proxy") == 1, f"look at {look}"
    assert inspect.getsource(server).count("import") == 1, f"look at {look}"
    expect(server, "from .serving import serve_http", look=look)
    # A service's client of itself: made, entered, asked for two attributes, closed; false means that there is none.
    expect(
        app.ServiceAppFactory.create_instance, "from ..client import RemoteProxy", "await proxy.__aenter__()", look=look
    )
    expect(app.ServiceAppFactory.create_instance, "proxy.to_async", "proxy.to_sync", look=look)
    expect(app.ServiceAppFactory.destroy_instance, "await own_proxy.close()", look=look)
    expect(
        method.APIMethod.__get__,
        'if proxy := getattr(instance, "__self_proxy__", None):',
        "func = local_caller",
        look=look,
    )
