"""Reads Triton's metrics endpoint: the text as it is, and the counter that shows that the engine's loop is running."""

import asyncio
import re

LIMIT_S = 1.0
ITERATIONS = re.compile(
    r'^nv_trt_llm_general_metrics\{[^}]*general_type="iteration_counter"[^}]*\} (\S+)$', re.MULTILINE
)
"""Steps of the engine. In NVIDIA's backend (custom_metrics_reporter.cc, the same from 0.10.0 to 1.3.0rc3) only the
Executor's loop increments it; in our OpenVINO model, the batcher's loop."""


async def scrape(address: str) -> str:
    """All metrics of the Triton at `address`, host:port; "" if it does not answer in time."""
    host, _, port = address.rpartition(":")
    try:
        return await asyncio.wait_for(_get(host, int(port)), LIMIT_S)
    except (OSError, ValueError, asyncio.TimeoutError):
        return ""


def iterations(text: str) -> float | None:
    """How many steps the engine has made, by its metrics; None if they do not say."""
    found = ITERATIONS.search(text)
    return float(found[1]) if found else None


async def _get(host: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n")
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if b" 200 " not in head.splitlines()[0]:
        raise ValueError("Triton has no metrics")
    return body.decode()
