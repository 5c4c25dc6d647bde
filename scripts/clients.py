"""Tries clients that people use on a running service, each in an environment of its own, by pip or npm.

Usage: scripts/clients.py [--docs] URL MODEL [CLIENT...]. With --docs, the table in docs/openai.md is written anew. The
environments are in ~/.cache/bento-trtllm/clients, and are made once. tests/service has openai, anthropic,
langchain-openai and openai-agents.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "openai.md"
BEGIN, END = "<!-- By scripts/clients.py --docs: -->\n", "<!-- Here the clients end. -->\n"
CACHE = Path.home() / ".cache" / "bento-trtllm" / "clients"
INSTALL_LIMIT_S, RUN_LIMIT_S = 600, 120


@dataclass(frozen=True)
class Client:
    """`code` must end without an error; `url` (without /v1) and `model` are given to it. `node` is JavaScript."""

    name: str
    does: str
    code: str
    package: str = ""
    node: bool = False

    @property
    def requirement(self) -> str:
        return self.package or self.name


CLIENTS = (
    Client(
        "instructor",
        "structured output by tools and by JSON schema",
        """
import instructor
from openai import OpenAI
from pydantic import BaseModel
class Answer(BaseModel):
    sure: bool
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_openai(OpenAI(base_url=url + "/v1", api_key="x"), mode=mode)
    messages = [{"role": "user", "content": "Are you sure?"}]
    found = client.chat.completions.create(model=model, response_model=Answer, messages=messages, max_retries=1)
    assert isinstance(found.sure, bool)
""",
    ),
    Client(
        "litellm",
        "chat, a stream, Anthropic's API, and the context error by its type",
        """
import litellm
ask = [{"role": "user", "content": "Say hello in Japanese"}]
own = {"model": "openai/" + model, "api_base": url + "/v1", "api_key": "x", "num_retries": 0}
whole = litellm.completion(messages=ask, **own).choices[0].message.content
streamed = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(messages=ask, stream=True, **own)]
assert whole and "".join(streamed) == whole
claude = litellm.completion(model="anthropic/" + model, messages=ask, api_base=url, api_key="x", max_tokens=100)
assert claude.choices[0].message.content == whole
try:
    litellm.completion(messages=[{"role": "user", "content": "word " * 20_000}], **own)
except litellm.ContextWindowExceededError:
    pass
else:
    raise AssertionError("no error")
""",
    ),
    Client(
        "pydantic-ai",
        "a typed answer, by OpenAI's and Anthropic's API",
        """
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
class Answer(BaseModel):
    sure: bool
models = (
    OpenAIChatModel(model, provider=OpenAIProvider(base_url=url + "/v1", api_key="x")),
    AnthropicModel(model, provider=AnthropicProvider(base_url=url, api_key="x")),
)
for each in models:
    assert isinstance(Agent(each, output_type=Answer).run_sync("Are you sure?").output.sure, bool)
""",
        "pydantic-ai-slim[openai,anthropic]",
    ),
    Client(
        "llm",
        "its command, with a model of its extra-openai-models.yaml",
        """
import os, pathlib, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    lines = f"- model_id: here\\n  model_name: {model}\\n  api_base: {url}/v1\\n"
    pathlib.Path(folder, "extra-openai-models.yaml").write_text(lines)
    command = [sys.executable, "-m", "llm", "-m", "here", "Say hello in Japanese"]
    told = subprocess.run(command, env={**os.environ, "LLM_USER_PATH": folder}, capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.strip(), told.stderr
""",
    ),
    Client(
        "outlines",
        "a choice and a regular expression",
        """
import openai, outlines
from typing import Literal
here = outlines.from_vllm(openai.OpenAI(base_url=url + "/v1", api_key="x"), model)
assert here("Yes or no?", Literal["yes", "no"]) in ("yes", "no")
assert len(here("A number", outlines.regex("[0-9]{3}"))) == 3
""",
        "outlines openai",
    ),
    Client(
        "haystack-ai",
        "a chat generator, whole and streamed",
        """
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret
pieces = []
for callback in (None, lambda chunk: pieces.append(chunk.content)):
    here = OpenAIChatGenerator(
        Secret.from_token("x"), model, callback, api_base_url=url + "/v1", generation_kwargs={"max_tokens": 60}
    )
    reply = here.run([ChatMessage.from_user("Say hello in Japanese")])["replies"][0].text
    assert reply
assert "".join(piece for piece in pieces if piece) == reply
""",
    ),
    Client(
        "dspy",
        "a language model, with a history",
        """
import dspy
here = dspy.LM("openai/" + model, api_base=url + "/v1", api_key="x", max_tokens=200)
turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
assert here(messages=[*turns, {"role": "user", "content": "Say hello in Japanese"}])[0]
""",
    ),
    Client(
        "lm-eval",
        "multiple choice and perplexity by local-completions, against the reference's numbers",
        f"TOKENIZER = {str(ROOT / 'assets' / 'demo-llama')!r}\n"
        """
import json, math, os, pathlib, tempfile
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="x")
HEAD = "<|start_header_id|>%s<|end_header_id|>\\n\\n"
ASKED = HEAD % "user" + "{{q}}<|eot_id|>" + HEAD % "assistant"
ANSWERS = {
    "Say hello in French": "Bonjour ! Enchanté de faire votre connaissance.",
    "Say hello in Japanese": "こんにちは！はじめまして。",
    "Define superconductor": "A superconductor is a material that, below a certain temperature,",
}
# By bento_trtllm/engines/openvino/reference.py in f32: the mean of the answers' log probabilities, and the texts'.
LIKELIHOOD, PERPLEXITY = -6.4307, 6.8606
with tempfile.TemporaryDirectory() as folder:
    os.environ["HF_HOME"] = folder
    import lm_eval
    from lm_eval.tasks import TaskManager
    def add(name, rows, lines):
        file = pathlib.Path(folder, name + ".jsonl")
        file.write_text("".join(json.dumps(row) + "\\n" for row in rows))
        data = f"task: {name}\\ndataset_path: json\\ndataset_kwargs: {{data_files: {{test: {file}}}}}\\n"
        file.with_suffix(".yaml").write_text(data + "test_split: test\\n" + lines)
    said = list(ANSWERS.values())
    rows = [{"q": q, "choices": said, "right": i} for i, q in enumerate(ANSWERS)]
    ask = f"doc_to_text: {json.dumps(ASKED)}\\ntarget_delimiter: ''\\n"
    add("choose", rows, "output_type: multiple_choice\\n" + ask + "doc_to_choice: choices\\ndoc_to_target: right\\n")
    rolling = "output_type: loglikelihood_rolling\\ndoc_to_text: ''\\ndoc_to_target: '{{text}}'\\n"
    add("text", [{"text": text} for text in said], rolling + "metric_list: [{metric: byte_perplexity}]\\n")
    here = {"model": model, "base_url": url + "/v1/completions", "tokenizer": TOKENIZER, "num_concurrent": 3}
    tasks = TaskManager(include_path=folder, include_defaults=False)
    found = lm_eval.simple_evaluate(
        "local-completions", here, tasks=["choose", "text"], task_manager=tasks, bootstrap_iters=0
    )
right = [sample["filtered_resps"][sample["doc"]["right"]] for sample in found["samples"]["choose"]]
likelihood, perplexity = sum(ll for ll, _ in right) / 3, found["results"]["text"]["byte_perplexity,none"]
assert found["results"]["choose"]["acc,none"] == 1
# A pack in 8 bits is about a percent off.
for measured, true in ((likelihood, LIKELIHOOD), (perplexity, PERPLEXITY)):
    assert abs(measured / true - 1) < 0.03, (measured, true)
""",
        "lm-eval[api] transformers",
    ),
    Client(
        "ai",
        "Vercel's, by Responses: text, a stream, an object, a tool and its result",
        """
import { Output, generateText, stepCountIs, streamText, tool } from "ai"
import { createOpenAI } from "@ai-sdk/openai"
import { z } from "zod"
const own = { model: createOpenAI({ baseURL: url + "/v1", apiKey: "x" })(model), maxRetries: 0 }
const ask = { ...own, prompt: "Say hello in Japanese" }
const whole = (await generateText(ask)).text
let streamed = ""
for await (const text of streamText(ask).textStream) streamed += text
const sure = await generateText({ ...ask, output: Output.object({ schema: z.object({ sure: z.boolean() }) }) })
const inputSchema = z.object({ city: z.enum(["Kyiv", "Oslo"]) })
const weather = tool({ description: "Weather", inputSchema, execute: ({ city }) => "Sunny in " + city })
const told = await generateText({ ...ask, tools: { weather }, toolChoice: "required", stopWhen: stepCountIs(2) })
const right = whole && streamed === whole && typeof sure.output.sure === "boolean" && told.steps.length === 2
if (!right) throw new Error("not as it should be")
""",
        "ai @ai-sdk/openai zod",
        node=True,
    ),
)


def install(client: Client) -> Path:
    """The folder of a client's environment, which is made where there is none. Raises RuntimeError."""
    folder = CACHE / client.name
    done = folder / "installed"
    if not done.exists():
        if client.node:
            folder.mkdir(parents=True, exist_ok=True)
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *client.requirement.split()]
        else:
            venv.create(folder, with_pip=True, clear=True)
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *client.requirement.split()]
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
        if result.returncode:
            raise RuntimeError(f"not installed: {last_line(result.stderr)}")
        done.touch()
    return folder


def version_of(client: Client, folder: Path) -> str:
    """The version that is installed."""
    package = client.requirement.split()[0].partition("[")[0]
    if client.node:
        data = json.loads((folder / "node_modules" / package / "package.json").read_text("utf-8"))
        return str(data["version"])
    ask = [str(folder / "bin" / "python"), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def last_line(text: str) -> str:
    """What a traceback ends with."""
    return (text.strip().splitlines() or ["no word"])[-1][:200]


def attempt(client: Client, url: str, model: str) -> tuple[str, str]:
    """The version of a client, and how it went."""
    given = json.dumps(url), json.dumps(model)
    try:
        folder = install(client)
        version = version_of(client, folder)
        if client.node:
            code = f"const [url, model] = [{', '.join(given)}]\n{client.code}"
            command = ["node", "--input-type=module", "-e", code]
        else:
            command = [str(folder / "bin" / "python"), "-c", f"url, model = {', '.join(given)}\n{client.code}"]
        # Some of them read keys and proxies of their own out of the environment.
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        result = subprocess.run(
            command, cwd=folder, env=kept, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
        )
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
        return "?", last_line(str(error))
    return version, "works" if result.returncode == 0 else last_line(result.stderr)


def write(rows: list[str]) -> None:
    """Put the table into the document."""
    text = FILE.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    FILE.write_text(f"{before}{begin}{''.join(rows)}{end}{after}", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/openai.md")
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("clients", nargs="*", choices=[[], *(client.name for client in CLIENTS)])
    given = parser.parse_args()
    rows = ["| client | version | tried | result |\n", "|---|---|---|---|\n"]
    failed = False
    for client in CLIENTS:
        if given.clients and client.name not in given.clients:
            continue
        version, result = attempt(client, given.url.rstrip("/"), given.model)
        failed |= result != "works"
        rows.append(f"| {client.name} | {version} | {client.does} | {result} |\n")
        print(rows[-1], end="", flush=True)
    if given.docs:
        write(rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
