"""All of the web application in one process, on a model that says what a test tells it to."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import httpx

from bento_trtllm.api.anthropic.errors import AnthropicErrors
from bento_trtllm.api.asgi import App
from bento_trtllm.api.bodies import DecodedBodies
from bento_trtllm.api.envelope import Envelope
from bento_trtllm.api.model import ServedModel
from bento_trtllm.api.tools.formats import LLAMA3, ToolFormat
from bento_trtllm.api.web import web_app
from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.generator import Generator
from bento_trtllm.generation.slots import OwnSlots
from bento_trtllm.generation.source import PromptScore, TokenBatch, TokenRequest
from bento_trtllm.manifest import Manifest
from bento_trtllm.swap.visits import Visits
from bento_trtllm.text.defaults import Defaults
from bento_trtllm.text.template import ChatTemplate
from tests.support.demo import MODEL, TEMPLATE, TOKENIZER
from tests.support.scripted_source import LONG, ScriptedSource, Step
from tests.support.served import Served
from tests.support.serving import DEMO

EOT = TOKENIZER.special_ids["<|eot_id|>"]
CONTEXT = 4096
VOCABULARY = 2560
Said = str | Step


class ScriptedApp:
    """Answers with a script: a string is said token by token, and the answer ends with an end token.

    `source.requests` are those that the engine was asked.
    """

    def __init__(
        self,
        *script: Said,
        choose: Callable[[TokenRequest], Sequence[Said]] | None = None,
        template: ChatTemplate = TEMPLATE,
        ignore_unknown: bool = False,
        tool_format: ToolFormat = LLAMA3,
        thinks: bool = False,
        name: str = MODEL,
        beside: Sequence[ServedModel] = (),
    ) -> None:
        """The models `beside` its own are served, too."""
        self._choose = choose or (lambda request: script)
        self.source = ScriptedSource(choose=self._play)
        profile = EngineProfile(VOCABULARY, CONTEXT, (EOT,), CONTEXT - 1, guided=True)
        admission = Admission(OwnSlots(8), 8)
        web = web_app(ignore_unknown=ignore_unknown)
        self.model = SimpleNamespace(
            name=name,
            tag=f"{name}:test",
            created=0,
            manifest=_manifest(),
            proof=None,
            tokenizer=TOKENIZER,
            template=template,
            generator=Generator(profile, TOKENIZER, lambda: self.source, admission, LONG),
            admission=admission,
            tool_format=tool_format,
            thinks=thinks,
            kind="models",
            variants={},
            not_ready=lambda: None,
            defaults=Defaults.read(DEMO),
        )
        web.state.serving = Served(cast(ServedModel, self.model), *beside)
        # In the order of service.py.
        visits = Visits(cast(App, web), state=web.state)
        self.app = AnthropicErrors(cast(App, Envelope(cast(App, DecodedBodies(cast(App, visits))))))

    def _play(self, request: TokenRequest) -> Sequence[Step]:
        steps: list[Step] = []
        if request.prompt_log_probs is not None:
            steps.append(TokenBatch((), prompt=[PromptScore(-1.0, 1, ())] * (len(request.input_ids) - 1)))
        for said in self._choose(request):
            if isinstance(said, str):
                steps += [[token] for token in TOKENIZER.encode_text(said)]
            else:
                steps.append(said)
        ended = bool(steps) and isinstance(steps[-1], Exception)
        return steps[: request.max_tokens] if ended or len(steps) >= request.max_tokens else [*steps, [EOT]]

    def client(self) -> httpx.AsyncClient:
        """For requests by hand."""
        transport = httpx.ASGITransport(cast(Any, self.app), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    async def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        """One request."""
        async with self.client() as client:
            return await client.post(path, json={"model": MODEL, **body}, headers=headers)


def typed_events(text: str) -> list[tuple[str, str]]:
    """The types and the data of server-sent events."""
    frames = [frame.split("\n") for frame in text.removesuffix("\n\n").split("\n\n")]
    return [(event.removeprefix("event: "), data.removeprefix("data: ")) for event, data in frames]


def _manifest() -> Manifest:
    return Manifest(
        engine="openvino",
        precision="f16",
        source=str(DEMO),
        revision=None,
        checksum=None,
        architecture="LlamaForCausalLM",
        parameters=1,
        dtype="float32",
        vocab_size=VOCABULARY,
        context_length=CONTEXT,
        bos_id=None,
        eos_ids=[EOT],
        versions={},
    )
