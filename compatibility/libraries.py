"""Libraries that applications call models with, and a proxy made of one."""

from compatibility.client import Client

LIBRARIES = (
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
)
