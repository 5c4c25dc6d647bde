"""Triton's gRPC port for other programs: its address, and the key that calls need.

Without `grpc_port` there is none: Triton listens at a random port of 127.0.0.1, for this service only.
"""

import errno
import os
import socket
from dataclasses import dataclass

from bento_trtllm.config import DoorSettings
from bento_trtllm.errors import TritonError

LOOPBACK = "127.0.0.1"
LOCKED = "inference,metadata,model-config"
"""Groups of Triton's gRPC API that require the key. `health` does not, like the service's own probes; those that
nothing needs have another key (launch.py)."""
KEY_NAME = "infer-key"
HEADER = f"triton-grpc-protocol-{KEY_NAME}"
"""From docs/customization_guide/inference_protocols.md of triton-inference-server/server."""


@dataclass(frozen=True)
class Door:
    """Where Triton takes gRPC calls."""

    address: str
    """The IP address that Triton listens at."""
    port: int
    """0: any free port."""
    key: str
    """Empty: none is required."""

    @classmethod
    def of(cls, settings: DoorSettings) -> "Door":
        """The door that the settings describe."""
        return cls(str(settings.grpc_address), settings.grpc_port, settings.grpc_key.get_secret_value())

    @property
    def open(self) -> bool:
        """Whether it is open to other programs."""
        return bool(self.port)

    @property
    def host(self) -> str:
        """The IP address at which the service itself reaches it."""
        return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(self.address, self.address)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata that each call needs."""
        return ((HEADER, self.key),) if self.key else ()

    def arguments(self, port: int) -> list[str]:
        """Its part of tritonserver's command line."""
        lock = [f"--grpc-restricted-protocol={LOCKED}:{KEY_NAME}={self.key}"] if self.key else []
        return [f"--grpc-address={_bracketed(self.address)}", f"--grpc-port={port}", *lock]

    def at(self, port: int) -> str:
        """The address at which the service itself reaches it, as host:port."""
        return f"{_bracketed(self.host)}:{port}"

    def check(self) -> None:
        """Raise TritonError if Triton could not listen there. Unless another program is faster, it then can."""
        if not self.open:
            return
        with socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET) as probe:
            # As gRPC does, so that the last Triton's connections in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.address, self.port))
                probe.listen()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    why = "another program listens there"
                elif error.errno == errno.EADDRNOTAVAIL:
                    why = "this machine has no such address"
                else:
                    why = os.strerror(error.errno or 0)
                where = f"{_bracketed(self.address)}:{self.port}"
                raise TritonError(f"Triton cannot listen at {where} (grpc_address, grpc_port): {why}.") from error


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
