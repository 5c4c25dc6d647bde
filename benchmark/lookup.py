"""What the setting prompt_lookup gives, through the whole service: `python -m benchmark.lookup [--checkpoint DIR]`.

Two services of one model, without it and with it, are asked in turns. What counts is the CPU time of the engine, in
its own process, for a token: it says what all cores give, and hardly depends on what else runs.
The text that repeats is an answer that stands in the prompt already; the other does not. Prints a table in Markdown.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmark.service import Service
from bento_trtllm.text.prompt import PROMPT_TEMPLATE, SYSTEM_PROMPT
from tests.support import launcher
from tests.support.launcher import DEMO, environment, launch

TAG = "lookup-llama:bench"
GUESSED = 5
TOKENS = 128
CORPUS = DEMO.parent / "demo-corpus" / "superconductors.jsonl"
HEADS = ("text", "streams", "CPU ms a token without", "with", "without ÷ with")


def prompts() -> dict[str, str]:
    """A question, and the same after a talk in which it was asked and answered."""
    pair = json.loads(CORPUS.read_text("utf-8").splitlines()[0])
    question = pair["questions"][0]
    alone = PROMPT_TEMPLATE.format(system_prompt=SYSTEM_PROMPT, user_prompt=question)
    turn = PROMPT_TEMPLATE.split("<|eot_id|>", 1)[1].format(user_prompt=question)
    return {"does not repeat": alone, "repeats": f"{alone}{pair['answer']}<|eot_id|>{turn}"}


async def cost(service: Service, model: str, prompt: str, streams: int) -> float:
    """Milliseconds of the engine's CPU time for each token of so many answers at once."""
    body = {"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    before = cpu_ms(service)
    async with httpx.AsyncClient(base_url=service.url, timeout=300) as client:
        answers = await asyncio.gather(*(client.post("/v1/completions", json=body) for _ in range(streams)))
    tokens: int = sum(answer.json()["usage"]["completion_tokens"] for answer in answers)
    return (cpu_ms(service) - before) / tokens


def cpu_ms(service: Service) -> float:
    times = [process.cpu_times() for process in service.groups()["stubs"]]
    return 1000.0 * sum(float(each.user + each.system) for each in times)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmark.lookup", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=DEMO, metavar="DIR", help="default: the demo")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="lookup-") as folder, ExitStack() as stack:
        home = Path(folder)
        launcher.pack(home, TAG, given.checkpoint, "--precision", given.precision)
        options = ("--arg", f"model={TAG}", "--arg", "prompt_lookup=")
        plain, guessing = (
            stack.enter_context(
                launch(Service, home / f"{count}.txt", environment(home), *options[:-1], f"{options[-1]}{count}")
            )
            for count in (0, GUESSED)
        )
        for service in (plain, guessing):
            service.wait_ready()
        for text, prompt in prompts().items():
            for streams in map(int, given.streams.split(",")):
                found: tuple[list[float], list[float]] = ([], [])
                for _ in range(given.repeats):
                    for service, costs in zip((plain, guessing), found, strict=True):
                        costs.append(asyncio.run(cost(service, TAG.partition(":")[0], prompt, streams)))
                without, with_it = map(statistics.median, found)
                rows.append((text, str(streams), f"{without:.2f}", f"{with_it:.2f}", f"{without / with_it:.2f}"))
                print(rows[-1], file=sys.stderr, flush=True)
    for row in (HEADS, ["---:"] * len(HEADS), *rows):
        print(f"| {' | '.join(row)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
