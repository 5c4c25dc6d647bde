"""tensorrt_llm.llmapi: the LLM, its results, and what they are told. Rules with their place in 1.3.0rc3's source.

The engine's loop is the Executor of tests/support/standin, in this process where upstream's is in another.
"""

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from checks import Limits
from contract import CLASSES, NotUpstream, attribute, enumeration, exported, fail, fits, methods, record, statistics
from door import Door
from executor import Executor, Response
from source import Source
from tensors import Request

from tensorrt_llm.lora_helper import check_adapter

__all__ = [
    "LLM",
    "CapacitySchedulerPolicy",
    "CompletionOutput",
    "CudaGraphConfig",
    "EagleDecodingConfig",
    "GuidedDecodingParams",
    "KvCacheConfig",
    "LoRARequest",
    "NGramDecodingConfig",
    "RequestError",
    "SamplingParams",
    "SchedulerConfig",
]
exported("llmapi", *__all__)

HERE = Path(__file__).parents[1]
ISOLATED = "OMPI_MCA_ess_singleton_isolated"
POLL_S = 0.1
KEPT_PROMPTS = 256
TURN_S, LONGEST_TURN_S = 0.002, 0.1


def _check_sampling(params: Any) -> None:
    """SamplingParams._validate."""
    if params.top_p is not None and not 0 <= params.top_p <= 1:
        raise fail("SamplingParams", ValueError, "require 0 <= top_p <= 1, got top_p=", str(params.top_p))
    if params.top_k is not None and params.top_k < 0:
        raise fail("SamplingParams", ValueError, "require top_k >= 0, got top_k=", str(params.top_k))
    if params.temperature is not None and params.temperature < 0:
        raise fail("SamplingParams", ValueError, "require temperature >= 0, got temperature=", str(params.temperature))
    guides = params.guided_decoding
    if guides and sum(map(bool, vars(guides).values())) > 1:
        raise fail("GuidedDecodingParams", ValueError, "Only one guide can be used for a request, but got ")


CapacitySchedulerPolicy = enumeration("CapacitySchedulerPolicy")
KvCacheConfig, SchedulerConfig, CudaGraphConfig = map(record, ("KvCacheConfig", "SchedulerConfig", "CudaGraphConfig"))
NGramDecodingConfig, EagleDecodingConfig = map(record, ("NGramDecodingConfig", "EagleDecodingConfig"))
GuidedDecodingParams, CompletionFields, LoRARequest = map(
    record, ("GuidedDecodingParams", "CompletionOutput", "LoRARequest")
)
Logprob = record("Logprob")
SamplingParams = record("SamplingParams", _check_sampling)
(RequestErrorBase,) = CLASSES["RequestError"]["bases"]
assert RequestErrorBase == "RuntimeError"


class RequestError(RuntimeError):
    """executor/utils.py."""


class CompletionOutput(CompletionFields):  # type: ignore[misc,valid-type]
    """What one sequence has so far; a diff is what the last response brought."""

    def __init__(self, index: int) -> None:
        super().__init__(index=index, token_ids=[], logprobs=[])

    @property
    def token_ids_diff(self) -> list[int]:
        return list(self.token_ids[self._last_token_ids_len :])

    @property
    def logprobs_diff(self) -> list[Any]:
        return list(self.logprobs[self._last_logprobs_len :])


methods("CompletionOutput", CompletionOutput)


class GenerationResult:
    """executor/result.py: each `anext` takes one response of the engine."""

    def __init__(self, executor: Executor, params: Any, cached: int) -> None:
        # Without a running loop there is no queue to wait at (GenerationResultBase.__init__).
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Response] = asyncio.Queue()
        self._executor, self._params = executor, params
        self._output = CompletionOutput(0)
        self._id, self._done, self._aborted = 0, False, False
        self.cached_tokens, self._cached = 0, cached

    @property
    def outputs(self) -> list[CompletionOutput]:
        return [self._output]

    def abort(self) -> None:
        self._aborted = True
        self._executor.cancel(self._id)

    def aborted(self) -> bool:
        return self._aborted

    def __aiter__(self) -> "GenerationResult":
        return self

    async def __anext__(self) -> "GenerationResult":
        if self._done:
            raise StopAsyncIteration
        self._handle(await self._queue.get())
        return self

    def _put(self, response: Response) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, response)

    def _handle(self, response: Response) -> None:
        result, output = response.result, self._output
        if result is None:
            self._done = True
            raise RequestError(response.error)
        self.cached_tokens = self._cached
        output._last_token_ids_len = len(output.token_ids)
        output.token_ids.extend(result.tokens)
        if result.log_probs is not None:
            output._last_logprobs_len = len(output.logprobs)
            fresh = zip(output.token_ids_diff, result.log_probs[output._last_logprobs_len :], strict=True)
            output.logprobs += [{token: Logprob(logprob=score, rank=1)} for token, score in fresh]
            output.cumulative_logprob = result.cum_log_prob
        self._done = result.final
        if result.final:
            full = len(output.token_ids) >= self._params.max_tokens
            output.finish_reason = "cancelled" if self._aborted else "length" if full else "stop"
            self._stop_word(output)

    def _stop_word(self, output: CompletionOutput) -> None:
        """A stop token stays only where it was asked for (_handle_sequence)."""
        if output.token_ids and output.token_ids[-1] in (self._params.stop_token_ids or ()):
            output.finish_reason, output.stop_reason = "stop", output.token_ids[-1]
            if not self._params.include_stop_str_in_output:
                output.token_ids = output.token_ids[:-1]


methods("GenerationResult", GenerationResult)
attribute("GenerationResult", "cached_tokens")


class Turns(Door):
    """Upstream's engine is another process. Here OpenVINO holds Python's lock in each step, and the loop that takes
    its tokens must have its turn between two: a part of what the last step took."""

    _ended = 0.0

    def step(self, at: str, made: int) -> None:
        if at == "forwardAsync":
            took = time.monotonic() - self._ended
            time.sleep(min(max(TURN_S, took / 4), LONGEST_TURN_S))
        super().step(at, made)
        self._ended = time.monotonic()


class Engine(Executor):
    """One Executor, the results that its responses are for, and the prompts of which it would still have the cache."""

    def __init__(self, place: Path, limits: Limits, door: Door) -> None:
        self.results: dict[int, GenerationResult] = {}
        self._prompts: deque[list[int]] = deque(maxlen=KEPT_PROMPTS)
        source = Source(place, limits.max_batch_size)
        self.blocks = source.blocks
        super().__init__(source, limits, door, normalize_log_probs=False, respond=self._hand_over, log_error=print)

    def cached(self, prompt: list[int]) -> int:
        """How many of its tokens begin an earlier prompt, but the last, which is always computed: blocks are reused in
        part, too (loadOrAllocateBlocks in kvCacheManager.cpp)."""
        found = 0
        for other in self._prompts:
            while found < min(len(prompt) - 1, len(other)) and prompt[: found + 1] == other[: found + 1]:
                found += 1
        self._prompts.append(prompt)
        return found

    def _hand_over(self, response: Response) -> None:
        if result := self.results.get(response.id):
            if response.result is None or response.result.final:
                del self.results[response.id]
            result._put(response)


class LLM:
    """llmapi/llm.py, with the arguments of TorchLlmArgs."""

    _steps = 0
    _asked_in: asyncio.AbstractEventLoop | None = None
    """Where the first request was made: only there are statistics, and only of it (IterationResult, result.py)."""

    def __init__(self, **given: Any) -> None:
        fields = CLASSES["TorchLlmArgs"]["fields"]
        for name, value in given.items():
            if name not in fields:
                raise fail("BaseLLM", ValueError, "", f"LLM got invalid argument: {name}")
            if not fits(value, fields[name]["annotation"]):
                raise TypeError(f"TorchLlmArgs.{name} is {value!r}, and should be {fields[name]['annotation']}")
        if ISOLATED in os.environ:
            raise RuntimeError("MPI_Comm_spawn: an isolated singleton spawns no process")
        if given["backend"] != "pytorch" or not (Path(given["model"]) / "config.json").is_file():
            raise ValueError(f"Invalid model: {given['model']}")
        self._args = given
        self._lora = given.get("lora_config")
        self._door = Turns()
        self._door.record({name: str(value) for name, value in given.items()})
        self._door.load()
        self._limits = _limits(given)
        self._engines: dict[str, Engine] = {}
        """By what computes: the checkpoint, or an adapter on it."""
        self._engine(given["model"])
        self._shut = False

    def _engine(self, folder: str) -> Engine:
        """Upstream's one engine adds an adapter as it computes; here each has one of its own, with the sum."""
        if folder not in self._engines:
            self._engines[folder] = Engine(_place(Path(folder)), self._limits, self._door)
        return self._engines[folder]

    def generate(
        self, inputs: list[int], sampling_params: Any, use_tqdm: bool = True, lora_request: Any = None
    ) -> GenerationResult:
        async def last() -> GenerationResult:
            result = self.generate_async(inputs, sampling_params, lora_request)
            async for _ in result:
                pass
            return result

        return asyncio.run(last())

    def generate_async(
        self, inputs: list[int], sampling_params: Any, lora_request: Any = None, streaming: bool = False
    ) -> GenerationResult:
        if self._shut:
            raise RuntimeError("LLM is shutting down")
        self._asked_in = self._asked_in or asyncio.get_running_loop()
        if not isinstance(inputs, list) or not all(type(each) is int for each in inputs):
            raise TypeError(f"The inputs must be type str or list of int, but got {type(inputs)}")
        limits = self._limits
        if len(inputs) > limits.max_input_len:
            if len(inputs) >= limits.max_seq_len:
                raise RequestError(f"`default_max_tokens` ({limits.max_seq_len - len(inputs)}) must be greater than 0")
            raise RequestError(f"The sum of prompt length ({len(inputs)}), query length (0) should not exceed …")
        heeded = self._args.get("sampler_type") == "TRTLLMSampler"
        request = _request(inputs, sampling_params, streaming, heeded, limits.guide_ends)
        self._door.record(
            {
                **vars(request),
                "adapter": lora_request and lora_request.lora_name,
                "sampling_params": {k: str(v) for k, v in vars(sampling_params).items()},
            }
        )
        folder = self._args["model"]
        # Without a configuration the request's adapter is ignored, without a word (_enqueue_request, base_worker.py).
        if lora_request is not None and self._lora is not None:
            folder = lora_request.lora_path
            check_adapter(self._lora, Path(folder))
        engine = self._engine(folder)
        reused = self._args["kv_cache_config"].enable_block_reuse
        result = GenerationResult(engine, sampling_params, engine.cached(inputs) if reused else 0)

        def known(ids: list[int]) -> None:
            (result._id,) = ids
            engine.results[result._id] = result

        engine.enqueue([request], known)
        return result

    def get_stats(self, timeout: float = 2) -> list[dict[str, Any]]:
        """Waits for the first of them (fetch_stats_wait_async in rpc_worker_mixin.py)."""
        if not self._args.get("enable_iter_perf_stats"):
            raise NotUpstream("without enable_iter_perf_stats there are no statistics")
        began = time.monotonic()
        while not (found := list(self._statistics())) and time.monotonic() - began < timeout:
            time.sleep(POLL_S)
        return found

    def get_stats_async(self, timeout: float = 2) -> AsyncIterator[dict[str, Any]]:
        """As that, before it returns (aget_stats in executor/proxy.py)."""
        if self._asked_in is not asyncio.get_running_loop():
            raise AssertionError("The asyncio event loop was not present during initialization")
        found = self.get_stats(timeout)

        async def each() -> AsyncIterator[dict[str, Any]]:
            for one in found:
                yield one

        return each()

    def shutdown(self) -> None:
        self._shut = True
        for engine in self._engines.values():
            engine.close()

    def _statistics(self) -> Iterator[dict[str, Any]]:
        for engine in tuple(self._engines.values()):
            while engine.stats:
                latest, blocks = engine.stats.popleft(), engine.blocks
                self._steps += 1
                used = round(latest.kv_used / 100 * blocks)
                cache = statistics("KvCacheStats", maxNumBlocks=blocks, usedNumBlocks=used, tokensPerBlock=32)
                active = latest.active
                whole = statistics("IterationStats", iter=self._steps, numActiveRequests=active, kvCacheStats=cache)
                yield json.loads(json.dumps(whole))


methods("BaseLLM", LLM)


def _request(prompt: list[int], params: Any, streaming: bool, heeded: bool, ends: frozenset[int]) -> Request:
    """A request of the Executor. What TorchSampler does not heed is left out, as there: without a word."""
    guide = params.guided_decoding
    kinds = {"json": "json_schema", "regex": "regex", "grammar": "ebnf_grammar"}
    guides = [(kind, getattr(guide, name)) for name, kind in kinds.items() if guide and getattr(guide, name)]
    if guide and guide.json_object:
        guides = [("json", "")]
    sampled = ("temperature", "min_tokens", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed")
    names = sampled if heeded else sampled[:2]
    bias = params.embedding_bias
    banned = tuple((token,) for token in params.bad_token_ids or ()) if heeded else ()
    if guides and banned:
        # The source forbids nothing beside a guide; what it takes for an end comes nowhere but at the guide's.
        if odd := {token for (token,) in banned} - ends:
            raise NotImplementedError(f"the stand-in cannot keep {odd} out of what follows a guide")
        banned = ()
    return Request(
        input_ids=tuple(prompt),
        max_tokens=params.max_tokens,
        streaming=streaming,
        exclude_input=params.exclude_input_from_output,
        end_id=None if params.end_id == -1 else params.end_id,  # no token is -1
        stop_words=tuple((token,) for token in params.stop_token_ids or ()),
        bad_words=banned,
        embedding_bias=() if bias is None else tuple(bias.array.tolist()),
        guide=guides[0] if guides else None,
        sampling={
            **dict.fromkeys(("runtime_top_k_min", "beam_width", "num_return_sequences", *sampled)),
            **{name: getattr(params, name) for name in names},
            "runtime_top_k": params.top_k,
            "runtime_top_p": params.top_p,
            "runtime_min_p": params.min_p if heeded else None,
        },
        flags={
            "return_log_probs": params.logprobs is not None,
            "return_context_logits": params.return_context_logits,
            "return_generation_logits": params.return_generation_logits,
        },
    )


def _limits(given: dict[str, Any]) -> Limits:
    folder = Path(given["model"])
    config = json.loads((folder / "config.json").read_text("utf-8"))
    longest = given["max_seq_len"] - 1
    chunked = given["enable_chunked_prefill"]
    policy = given["scheduler_config"].capacity_scheduler_policy
    return Limits(
        vocab_size=config["vocab_size"],
        max_seq_len=given["max_seq_len"],
        max_input_len=longest if chunked else min(longest, given["max_num_tokens"]),
        max_batch_size=given["max_batch_size"],
        chunked_context=chunked,
        max_utilization=policy is CapacitySchedulerPolicy.MAX_UTILIZATION,
        # Upstream's is the tokenizer's one (_xgrammar_tokenizer_info): see _request.
        guide_ends=frozenset(json.loads((folder / "generation_config.json").read_text("utf-8"))["eos_token_id"]),
    )


def _place(model: Path) -> Path:
    """What the source of tokens reads in place of the checkpoint; place.py wrote it."""
    return Path(json.loads((HERE / "places.json").read_text("utf-8"))[str(model.resolve())])
