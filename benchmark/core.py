"""The gateway without HTTP: `python -m benchmark.core TRITON PACKED_MODEL TOKENS` streams one answer's text.

For answers longer than `generate` gives: everything of the service between Triton's messages and text.
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from bento_trtllm.generation.admission import Admission
from bento_trtllm.generation.deadlines import Deadlines
from bento_trtllm.generation.engine_profile import EngineProfile
from bento_trtllm.generation.generator import Generator
from bento_trtllm.generation.parameters import GenerationRequest, Sampling
from bento_trtllm.generation.results import Finish
from bento_trtllm.generation.slots import OwnSlots
from bento_trtllm.manifest import Manifest
from bento_trtllm.metrics.prometheus import Telemetry
from bento_trtllm.text.tokenizer import PromptTokenizer
from bento_trtllm.triton.wire.client import TritonClient

WARM_UP = 500


async def main(triton: str, directory: Path, tokens: int) -> dict[str, float]:
    client = TritonClient(triton)
    admission = Admission(OwnSlots(1), 0)
    tokenizer = PromptTokenizer(directory / "tokenizer")
    deadlines = Deadlines(60, 60, 600)
    manifest = Manifest.read(directory)
    context = manifest.context_length
    profile = EngineProfile(manifest.vocab_size, context, manifest.eos_ids, context - 1)
    telemetry = Telemetry()
    generator = Generator(profile, tokenizer, lambda: client, admission, deadlines, telemetry.of("free", admission))
    ids = tokenizer.encode("Explain superconductors in plain English")
    try:
        await generate(generator, ids, WARM_UP)
        cpu = time.process_time()
        made = await generate(generator, ids, tokens)
        cpu = time.process_time() - cpu
    finally:
        await client.close()
    if made != tokens:
        raise SystemExit(f"{made} tokens came where {tokens} were asked for")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"cpu_us": cpu * 1e6 / tokens, "peak_mb": peak}


async def generate(generator: Generator, ids: list[int], tokens: int) -> int:
    async for item in generator.stream(GenerationRequest(ids, tokens, Sampling())):
        if isinstance(item, Finish):
            return item.usage.completion_tokens
    return 0


if __name__ == "__main__":
    address, folder, count = sys.argv[1:]
    print(json.dumps(asyncio.run(main(address, Path(folder), int(count)))))
