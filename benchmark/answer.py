"""What an answer must be, so that tokens are counted exactly and a wrong answer is an error."""

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, replace

from tokenizers import Tokenizer

from benchmark.engine import Model, question
from benchmark.load import Bare, Load
from benchmark.service import BenchError, Service
from bento_trtllm.manifest import Manifest
from bento_trtllm.text.prompt import SYSTEM_PROMPT
from bento_trtllm.text.template import ChatTemplate
from bento_trtllm.text.tokenizer import PromptTokenizer
from bento_trtllm.text.vocabulary import token_bytes

PROMPT = "Explain superconductors in plain English"


@dataclass(frozen=True)
class Asker:
    """Makes loads whose answers are known: said by the free engine, or found out once from the real one."""

    model: Model
    service: Service
    chat_model: str

    def load(self, path: str, streams: int, tokens: int, stagger_s: float = 0.0) -> Load:
        """The load of one request per stream; rounds may make it more."""
        directory = self.model.directory / "tokenizer"
        load = Load(
            path=path,
            triton=self.service.grpc_address(),
            http=self.service.host,
            streams=streams,
            requests=1,
            tokens=tokens,
            expected_tokens=0,
            expected_bytes=0,
            prompt=PROMPT,
            text=question(PROMPT),
            input_ids=ChatTemplate(directory, PromptTokenizer(directory)).prompt(PROMPT, SYSTEM_PROMPT),
            end_ids=Manifest.read(self.model.directory).eos_ids,
            stagger_s=stagger_s,
            chat_model=self.chat_model,
        )
        if self.model.engine == "free":
            cycle = self.model.tokens
            answer = [*(cycle * (tokens // len(cycle) + 1))[:tokens]]
        else:
            answer = asyncio.run(_generate(load))
        table = token_bytes(Tokenizer.from_file(str(directory / "tokenizer.json")))
        raw = b"".join(table[i] for i in answer)
        # The ensemble passes bytes on; the service marks a character that the answer's end cuts.
        size = len(raw if path == "ensemble" else raw.decode("utf-8", "replace").encode())
        return replace(load, expected_tokens=len(answer), expected_bytes=size)


async def _generate(load: Load) -> list[int]:
    """One answer of the real engine, greedily."""
    bare = Bare("tensorrt_llm")
    await bare.open(load)
    try:
        return [token async for ids in bare.answer(load, "output_ids") for token in ids.reshape(-1).tolist()]
    finally:
        await bare.close()


def chat_model(url: str) -> str:
    """The model's name on /v1; empty where there is no such route."""
    try:
        with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as response:
            listed: str = json.load(response)["data"][0]["id"]
            return listed
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise BenchError(f"{url}/v1/models answered {error.code}") from error
        return ""


@dataclass(frozen=True)
class RemoteAsker:
    """The same for a service of which nothing but the URL is known: it is asked once what it answers."""

    url: str
    chat_model: str

    def load(self, path: str, streams: int, tokens: int) -> Load:
        """Raises BenchError where the service does not answer."""
        body = json.dumps({"prompt": PROMPT, "max_tokens": tokens}).encode()
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        question = urllib.request.Request(f"{self.url}/generate", body, headers)
        try:
            with urllib.request.urlopen(question, timeout=120) as response:
                data = [line.removeprefix(b"data: ") for line in response if line.startswith(b"data: ")]
            events = [json.loads(line) for line in data if line.strip() != b"[DONE]"]
            made = events[-1]["usage"]["completion_tokens"]
        except (OSError, KeyError, IndexError) as error:
            raise BenchError(f"{self.url}/generate gave no answer: {error}") from error
        size = len("".join(event.get("text", "") for event in events).encode())
        return Load(
            path=path,
            triton="",
            http=urllib.parse.urlsplit(self.url).netloc,
            streams=streams,
            requests=1,
            tokens=tokens,
            expected_tokens=made,
            expected_bytes=size,
            prompt=PROMPT,
            text="",
            input_ids=[],
            end_ids=[],
            chat_model=self.chat_model,
        )
