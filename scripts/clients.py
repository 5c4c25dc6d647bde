"""Tries clients that people use on a running service, each in an environment of its own, by pip or npm.

Usage: scripts/clients.py [--docs] URL MODEL [CLIENT...]. With --docs, their rows in docs/openai.md are written anew.
The environments are in ~/.cache/bento-trtllm/clients, and are made once. tests/service has openai, anthropic,
langchain-openai and openai-agents. Coding agents send some 20,000 tokens: MODEL needs a context for that.
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
HEAD = "| client | version | tried | result |\n|---|---|---|---|\n"
BEGIN, END = "<!-- By scripts/clients.py --docs: -->\n", "<!-- Here the clients end. -->\n"
# What load generators make prompts with, and count with.
TOKENIZER = ROOT / "assets" / "demo-llama"
CACHE = Path.home() / ".cache" / "bento-trtllm" / "clients"
INSTALL_LIMIT_S, RUN_LIMIT_S = 600, 300


@dataclass(frozen=True)
class Client:
    """`code` must end without an error; `url` (without /v1), `model` and a `tokenizer` of its are given to it.

    With `node` it is JavaScript, with `npm` Python that starts a command of a package of npm.
    """

    name: str
    does: str
    code: str
    package: str = ""
    node: bool = False
    npm: bool = False

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
    litellm.completion(messages=[{"role": "user", "content": "word " * 100_000}], **own)
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
    Client(
        "litellm-proxy",
        "its server in front of this one: OpenAI's and Anthropic's API, whole and streamed, and Responses",
        """
import json, os, pathlib, secrets, socket, subprocess, sys, tempfile, time, urllib.request
key = "sk-" + secrets.token_hex(20)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
here = f"http://127.0.0.1:{port}"
def post(path, body):
    headers = {"content-type": "application/json", "authorization": "Bearer " + key}
    with urllib.request.urlopen(urllib.request.Request(here + path, json.dumps(body).encode(), headers)) as response:
        return response.read().decode()
with tempfile.TemporaryDirectory() as folder:
    own = {"model": "openai/" + model, "api_base": url + "/v1", "api_key": "x"}
    config = {"model_list": [{"model_name": "here", "litellm_params": own}], "general_settings": {"master_key": key}}
    (file := pathlib.Path(folder, "config.yaml")).write_text(json.dumps(config))
    command = [str(pathlib.Path(sys.executable).with_name("litellm")), "--config", str(file), "--port", str(port)]
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    proxy = subprocess.Popen([*command, "--host", "127.0.0.1"], cwd=folder, env=env, stdout=2)
    try:
        while proxy.poll() is None:
            try:
                urllib.request.urlopen(here + "/health/liveliness", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        ask = {"model": "here", "max_tokens": 60, "messages": [{"role": "user", "content": "Say hello in Japanese"}]}
        whole = json.loads(post("/v1/chat/completions", ask))["choices"][0]["message"]["content"]
        claude = json.loads(post("/v1/messages", ask))["content"][0]["text"]
        assert whole and claude == whole, (whole, claude)
        for path, mark in (("/v1/chat/completions", "[DONE]"), ("/v1/messages", "message_stop")):
            assert mark in post(path, ask | {"stream": True}), path
        told = json.loads(post("/v1/responses", {"model": "here", "input": "Say hello in Japanese"}))
        assert told["status"] == "completed", told
    finally:
        proxy.terminate()
        proxy.wait(30)
""",
        "litellm[proxy]",
    ),
    Client(
        "llama-index",
        "chat, a stream, and a tool that must be called",
        """
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
own = {"model": model, "api_base": url + "/v1", "api_key": "x", "context_window": 4096, "max_tokens": 60}
here = OpenAILike(**own, is_chat_model=True, is_function_calling_model=True)
ask = [ChatMessage(role="user", content="Say hello in Japanese")]
whole = here.chat(ask).message.content
assert whole and "".join(piece.delta or "" for piece in here.stream_chat(ask)) == whole
def weather(city: str) -> str:
    return "Sunny in " + city
tools = [FunctionTool.from_defaults(weather, description="The weather in a city")]
told = here.chat_with_tools(tools, "How is the weather in Kyiv?", tool_required=True)
(call, *_) = here.get_tool_calls_from_response(told)
assert call.tool_name == "weather" and isinstance(call.tool_kwargs["city"], str)
""",
        "llama-index-llms-openai-like",
    ),
    Client(
        "guidellm",
        "8 chats, 4 at a time, none of which failed",
        """
import json, os, pathlib, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder, "benchmarks.json")
    command = [
        pathlib.Path(sys.executable).with_name("guidellm"), "run", "--disable-progress",
        "--backend", f"kind=openai_http,target={url},model={model}",
        "--profile", "kind=concurrent,streams=4", "--constraint", "kind=max_requests,count=8",
        "--tokenizer", f"kind=hf_auto,model={tokenizer}",
        "--data", "kind=synthetic_text,prompt_tokens=50,output_tokens=20", "--output", f"kind=json,path={file}",
    ]
    told = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    counts = json.loads(file.read_text())["benchmarks"][0]["metrics"]["request_totals"]
    assert (counts["successful"], counts["errored"]) == (8, 0), counts
""",
    ),
    Client(
        "aiperf",
        "8 chats, 4 at a time, none of which failed",
        """
import json, pathlib, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    command = [
        pathlib.Path(sys.executable).with_name("aiperf"), "profile", "--model", model, "--tokenizer", tokenizer,
        "--url", url, "--endpoint-type", "chat", "--streaming", "--concurrency", "4", "--request-count", "8",
        "--synthetic-input-tokens-mean", "50", "--output-tokens-mean", "20", "--ui-type", "none",
        "--artifact-dir", folder,
    ]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(pathlib.Path(folder, "profile_export_aiperf.json").read_text())
    assert found["request_count"]["avg"] == 8 and not found.get("error_summary"), found
""",
    ),
    Client(
        "evalscope",
        "its perf: 8 chats, 4 at a time, none of which failed",
        """
import os, pathlib, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    command = [
        pathlib.Path(sys.executable).with_name("evalscope"), "perf", "--model", model,
        "--url", url + "/v1/chat/completions", "--api", "openai", "--dataset", "random",
        "--tokenizer-path", tokenizer, "--number", "8", "--parallel", "4", "--min-prompt-length", "20",
        "--max-prompt-length", "40", "--max-tokens", "20", "--min-tokens", "20", "--stream", "--outputs-dir", folder,
    ]
    told = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    (file,) = pathlib.Path(folder).rglob("performance_summary.txt")
    assert "100%" in file.read_text() or "100.0%" in file.read_text(), file.read_text()
""",
        "evalscope[perf]",
    ),
    Client(
        "@anthropic-ai/claude-code",
        "a question without a terminal, with its tools for files and commands, by Anthropic's API",
        """
import os, subprocess, tempfile
with tempfile.TemporaryDirectory() as home:
    env = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "x",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "100",
        # Were it to call another host, that would fail.
        "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost",
    }
    ask = ["node_modules/.bin/claude", "-p", "Say hello in Japanese", "--model", model, "--output-format", "json"]
    ask += ["--tools", "Bash,Edit,Read,Write"]
    told = subprocess.run(ask, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert told.returncode == 0 and '"is_error":false' in told.stdout.replace(" ", ""), told.stdout + told.stderr
""",
        npm=True,
    ),
    Client(
        "@openai/codex",
        "a question without a terminal, by Responses, without the tools that only OpenAI runs",
        """
import os, pathlib, subprocess, tempfile
provider = {"name": "here", "base_url": url + "/v1", "env_key": "HERE_KEY", "wire_api": "responses"}
config = {
    "model": model, "model_provider": "here", "web_search": "disabled", "check_for_update_on_startup": "",
    **{f"model_providers.here.{key}": value for key, value in provider.items()},
}
lines = [f"{key} = " + ('"' + value + '"' if value else "false") for key, value in config.items()]
lines += [f"model_providers.here.{key}_max_retries = 0" for key in ("request", "stream")]
lines += ["features.multi_agent = false", "analytics.enabled = false"]
with tempfile.TemporaryDirectory() as home:
    pathlib.Path(home, "config.toml").write_text(os.linesep.join(lines))
    env = {
        "PATH": os.environ["PATH"], "HOME": home, "CODEX_HOME": home, "HERE_KEY": "x",
        # Were it to call another host, that would fail.
        "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost",
    }
    command = ["node_modules/.bin/codex", "exec", "--skip-git-repo-check", "--sandbox", "read-only", "Say hello"]
    told = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.strip(), told.stdout + told.stderr
""",
        npm=True,
    ),
)


def install(client: Client) -> Path:
    """The folder of a client's environment, which is made where there is none. Raises RuntimeError."""
    folder = CACHE / client.name.rpartition("/")[2]
    done = folder / "installed"
    if not done.exists():
        if client.node or client.npm:
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
    if client.node or client.npm:
        data = json.loads((folder / "node_modules" / package / "package.json").read_text("utf-8"))
        return str(data["version"])
    ask = [str(folder / "bin" / "python"), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def last_line(text: str) -> str:
    """What a traceback ends with."""
    return (text.strip().splitlines() or ["no word"])[-1][:200]


def attempt(client: Client, url: str, model: str) -> tuple[str, str]:
    """The version of a client, and how it went."""
    given = [json.dumps(text) for text in (url, model, str(TOKENIZER))]
    try:
        folder = install(client)
        version = version_of(client, folder)
        if client.node:
            code = f"const [url, model, tokenizer] = [{', '.join(given)}]\n{client.code}"
            command = ["node", "--input-type=module", "-e", code]
        else:
            python = sys.executable if client.npm else str(folder / "bin" / "python")
            command = [python, "-c", f"url, model, tokenizer = {', '.join(given)}\n{client.code}"]
        # Some of them read keys and proxies of their own out of the environment.
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        result = subprocess.run(
            command, cwd=folder, env=kept, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
        )
    except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
        return "?", last_line(str(error))
    return version, "works" if result.returncode == 0 else last_line(result.stderr)


def write(rows: dict[str, str]) -> None:
    """Put these rows of clients into the table in the document; those of others stay."""
    text = FILE.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    table, end, after = rest.partition(END)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines(keepends=True)[2:]} | rows
    body = "".join(rows[client.name] for client in CLIENTS if client.name in rows)
    FILE.write_text(f"{before}{begin}{HEAD}{body}{end}{after}", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write their rows into docs/openai.md")
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("clients", nargs="*", choices=[[], *(client.name for client in CLIENTS)])
    given = parser.parse_args()
    failed = False
    for client in CLIENTS:
        if given.clients and client.name not in given.clients:
            continue
        version, result = attempt(client, given.url.rstrip("/"), given.model)
        failed |= result != "works"
        row = f"| {client.name} | {version} | {client.does} | {result} |\n"
        print(row, end="", flush=True)
        if given.docs:
            write({client.name: row})
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
