"""What answers HTTP in a worker: routes, middlewares, and the BentoML service's own endpoint."""

from collections.abc import AsyncGenerator
from typing import Any

import bentoml
from starlette.middleware.cors import CORSMiddleware

from bento_trtllm.api.access import Access
from bento_trtllm.api.anthropic.errors import AnthropicErrors
from bento_trtllm.api.bodies import DecodedBodies
from bento_trtllm.api.browsers import Browsers, cors
from bento_trtllm.api.envelope import Envelope
from bento_trtllm.api.generate import Fields, GenerateBody, respond
from bento_trtllm.api.guard import Guard
from bento_trtllm.api.pings import Pings
from bento_trtllm.api.routing import served
from bento_trtllm.api.web import LATE_ERRORS, web_app
from bento_trtllm.config import Settings
from bento_trtllm.generation.client import Client
from bento_trtllm.generation.parameters import Sampling
from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Ledger
from bento_trtllm.swap.serving import Serving
from bento_trtllm.swap.visits import Visits


class Front:
    """Make it before the first request. `serving` is there from `serve` on, which comes before any."""

    serving: Serving

    def __init__(self, service: Any, settings: Settings, keyring: Keyring, ledger: Ledger) -> None:
        """`service` is BentoML's."""
        ignore_unknown = settings.unknown_fields == "ignore"
        admin_key = settings.admin_key.get_secret_value()
        self.web = web_app(ignore_unknown=ignore_unknown, has_admin=bool(admin_key))
        self.web.state.service = service
        access = Access(keyring, ledger, admin_key, self._check_room, open_metrics=settings.open_metrics)
        browsers = Browsers(settings.hosts(), settings.origins())
        fields = Fields(service.apis["generate"].input_spec, ignore_unknown=ignore_unknown)
        self.middlewares: list[tuple[type[Any], dict[str, Any]]] = [
            (AnthropicErrors, {}),
            (Envelope, {}),
            *([(CORSMiddleware, cors(settings.origins()))] if settings.origins() else []),
            (Guard, {"access": access, "max_body_bytes": settings.max_body_bytes, "browsers": browsers}),
            (DecodedBodies, {"checks": {"/generate": fields.check}}),
            (Visits, {"state": self.web.state}),
            (Pings, {"interval_s": settings.ping_interval_s, "late_errors": LATE_ERRORS}),
        ]
        """The first sees a request first."""

    def serve(self, serving: Serving) -> None:
        """Have it behind all requests."""
        self.serving = self.web.state.serving = serving

    def generate(
        self,
        context: bentoml.Context,
        prompt: str,
        system_prompt: str,
        max_tokens: int,
        sampling: Sampling,
        model: str | None,
    ) -> AsyncGenerator[str, None]:
        """The body of a response of /generate."""
        request = GenerateBody(prompt, system_prompt, max_tokens, sampling, model)
        return respond(served(context.request), request, context)

    def _check_room(self, client: Client) -> None:
        self.serving.check_room(client)
