"""A collector: takes OpenTelemetry's spans as OTLP over HTTP, as any does, and keeps them.

A boundary: no collector is among the packages that tests may install. It reads what arrives with the protocol's own
protobuf messages.
"""

import base64
import gzip
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class Collected:
    """One span; ids in hexadecimal, times in nanoseconds."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    error: bool
    attributes: dict[str, object]


@dataclass
class Collector:
    """What has arrived so far."""

    url: str
    spans: list[Collected] = field(default_factory=list)

    def of(self, trace: str, count: int, limit_s: float = 30) -> list[Collected]:
        """The spans of a trace, once there are so many."""
        end = time.monotonic() + limit_s
        while len(found := [span for span in self.spans if span.trace == trace]) < count:
            assert time.monotonic() < end, [(span.service, span.name) for span in found]
            time.sleep(0.02)
        return found

    def take(self, body: bytes, kind: str) -> None:
        """Read one request, in protobuf's binary form or in JSON."""
        text = kind == "application/json"
        request = ExportTraceServiceRequest()
        if text:
            json_format.Parse(body, request)
        else:
            request.ParseFromString(body)
        # In OTLP's JSON ids are hexadecimal, where protobuf's JSON has, and so has read, base64.
        name = (lambda id: base64.b64encode(id).decode()) if text else bytes.hex
        for resource in request.resource_spans:
            service = str(_values(resource.resource.attributes).get("service.name"))
            for scope in resource.scope_spans:
                self.spans += [
                    Collected(
                        service,
                        span.name,
                        name(span.trace_id),
                        name(span.span_id),
                        name(span.parent_span_id),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == 2,  # STATUS_CODE_ERROR
                        _values(span.attributes),
                    )
                    for span in scope.spans
                ]


def _values(pairs: Iterable[KeyValue]) -> dict[str, object]:
    def value(pair: KeyValue) -> object:
        kind = pair.value.WhichOneof("value")
        if kind == "array_value":
            return [each.string_value for each in pair.value.array_value.values]
        return getattr(pair.value, kind) if kind else None

    return {pair.key: value(pair) for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port, to the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            known = self.path == "/v1/traces"
            if known:
                collector.take(body, self.headers.get_content_type())
            self.send_response(200 if known else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
