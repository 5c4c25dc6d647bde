"""What a web page makes a browser send to this machine, where no key is required.

A page of any site can send requests to a service that listens on the visitor's own machine, and can read the answers if
its own name is made to resolve there (DNS rebinding). Its requests say so: Host has the name, Origin the page's site.
Other clients send no Origin, and a Host that leads to this machine; for them nothing changes.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from bento_trtllm.api.asgi import Scope
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.rates import RATE_HEADERS

PROBES = ("/livez", "/readyz", "/healthz", "/health", "/ping")
ALL = "*"
# In a pod or a BentoCloud deployment, proxies connect on the loopback address, with any Host, and nobody browses.
ORCHESTRATED = ("KUBERNETES_SERVICE_HOST", "BENTOCLOUD_DEPLOYMENT_URL")


class Browsers:
    """Tells whom to answer by Host and Origin. `hosts` and `origins` are those that a setting allows."""

    def __init__(
        self, hosts: Sequence[str], origins: Sequence[str], environment: Mapping[str, str] = os.environ
    ) -> None:
        self._hosts = hosts
        self._origins = origins
        self._alone = not any(name in environment for name in ORCHESTRATED)
        own = socket.gethostname().lower()
        self._own = {own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raises APIError (403) for a request that another site's page may have sent."""
        local = self._alone and is_loopback(scope)
        if scope["path"] in PROBES or not (local or self._hosts or self._origins):
            return
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host and (local or self._hosts) and not self._known(host_name(host)):
            raise APIError(
                403,
                "host_not_allowed",
                f"The Host header says {host[:100]!r}, which is not a name of this machine: if it should be answered, "
                f"set the service's allowed_hosts to it, or set an API key.",
            )
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host and not {origin, ALL} & set(self._origins):
            raise APIError(
                403,
                "origin_not_allowed",
                f"A page of {origin[:100]!r} sent this: if it may, set the service's allowed_origins to that, or set "
                "an API key.",
            )

    def _known(self, name: str) -> bool:
        # An address, unlike a name, cannot be made to lead elsewhere.
        if is_address(name) or name in self._hosts or ALL in self._hosts:
            return True
        return not self._hosts and (name == "localhost" or name.endswith(".localhost") or name in self._own)


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """Options of Starlette's CORSMiddleware, which answers preflights before any key is asked for.

    Any request header is allowed: OpenAI's client sends a dozen of its own.
    """
    return {
        "allow_origins": [*origins],
        "allow_methods": ["GET", "HEAD", "POST"],
        "allow_headers": [ALL],
        "allow_private_network": True,
        "expose_headers": ["x-request-id", "retry-after", *RATE_HEADERS],
    }


def is_loopback(scope: Scope) -> bool:
    """Whether the connection came in at a loopback address; one of a unix socket did not."""
    address = (scope.get("server") or ("", None))[0]
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


def host_name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def is_address(name: str) -> bool:
    """Whether this is an IP address, not a name."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
