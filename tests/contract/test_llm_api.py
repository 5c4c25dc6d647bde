"""What our Triton model gives to TensorRT-LLM's LLM API, against the names, types and defaults in upstream's source.

Its classes here are made of the data alone (tests/support/llmapi/module/contract.py), at each version that was read: a
field that is not in it fails.
"""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bento_trtllm.engines.pytorch import releases
from tests.support.llmapi.api import RECORDS, VERSIONS, api


@pytest.fixture
def settings(ours: SimpleNamespace) -> Any:
    values = {
        "gpt_model_path": "/pack/engine", "vocab_size": "100", "context_length": "64", "tensor_parallel_size": "2",
        "pipeline_parallel_size": "1", "dtype": "auto", "max_batch_size": "8", "max_num_tokens": "32",
        "kv_cache_dtype": "auto", "kv_cache_free_gpu_mem_fraction": "", "max_tokens_in_paged_kv_cache": "0",
        "enable_kv_cache_reuse": "true", "enable_chunked_context": "true", "batch_scheduler_policy":
        "guaranteed_no_evict", "cuda_graphs": "true", "speculative": "", "draft_tokens": "4", "draft_folder": "",
        "guide_end_id": "7", "exclude_input_in_output": "true", "cancellation_check_period_ms": "20",
        "response_pace_ms": "1.5",
    }  # fmt: skip
    return ours.settings.PyTorchSettings.read({name: {"string_value": value} for name, value in values.items()})


def arguments(ours: SimpleNamespace, settings: Any) -> dict[str, Any]:
    """What LLM is started with, each of a type that its field takes."""
    values: dict[str, Any] = ours.arguments.llm_arguments(settings)
    fields = ours.contract.CLASSES["TorchLlmArgs"]["fields"]
    for name, value in values.items():
        assert ours.contract.fits(value, fields[name]["annotation"]), name
    return values


def test_the_llm_is_started_with_what_it_takes(ours: SimpleNamespace, settings: Any) -> None:
    values = arguments(ours, settings)
    assert (values["model"], values["tensor_parallel_size"], values["max_seq_len"]) == ("/pack/engine", 2, 64)
    assert values["sampler_type"] in ours.contract.enumeration("SamplerType").__members__
    assert "cuda_graph_config" not in values and "speculative_config" not in values
    cache = values["kv_cache_config"]
    assert cache.enable_block_reuse is True and cache.max_tokens is None
    # What is left open has TensorRT-LLM's own default, which is None in 1.1.0: as 0.9, it says.
    assert cache.free_gpu_memory_fraction in (0.9, None)
    assert values["scheduler_config"].capacity_scheduler_policy.value == "GUARANTEED_NO_EVICT"


def test_settings_reach_the_llm(ours: SimpleNamespace, settings: Any) -> None:
    other = replace(
        settings, cuda_graphs=False, kv_cache_tokens=4096, kv_cache_fraction=0.5, kv_cache_dtype="fp8",
        batch_scheduler_policy="max_utilization", enable_kv_cache_reuse=False, enable_chunked_context=False,
        guide_end=None,
    )  # fmt: skip
    values = arguments(ours, other)
    assert values["cuda_graph_config"] is None and values["enable_chunked_prefill"] is False
    assert values["guided_decoding_backend"] is None
    assert values["scheduler_config"].capacity_scheduler_policy.value == "MAX_UTILIZATION"
    cache = values["kv_cache_config"]
    assert (cache.enable_block_reuse, cache.max_tokens, cache.free_gpu_memory_fraction) == (False, 4096, 0.5)
    assert cache.dtype == "fp8"


def test_speculation(ours: SimpleNamespace, settings: Any) -> None:
    ngram = arguments(ours, replace(settings, speculative="ngram"))
    assert ngram["speculative_config"].max_draft_len == 4 and ngram["disable_overlap_scheduler"]
    eagle = arguments(ours, replace(settings, speculative="eagle3", draft_dir=Path("/pack/engine/draft")))
    guess = vars(eagle["speculative_config"])
    (draft,) = {"speculative_model", "speculative_model_dir"} & guess.keys()  # the older is an alias of the newer
    assert guess[draft] == "/pack/engine/draft"
    assert eagle["disable_overlap_scheduler"]
    # validate_feature_combination refuses it beside a draft model.
    assert "sampler_type" not in ngram and "sampler_type" not in eagle


def test_adapters(ours: SimpleNamespace, tmp_path: Path) -> None:
    """Room for all of them; no directory, of which TensorRT-LLM would take the tokenizer."""
    plain = ours.lora.Lora(tmp_path)
    assert plain.arguments() == {} and plain.of(request(ours)) is None
    (tmp_path / "adapters").mkdir()
    index = ours.adapters.Adapters(("b", "a"), 16, ("attn_q", "mlp_gate")).text()
    (tmp_path / "adapters/index.json").write_text(index)
    lora = ours.lora.Lora(tmp_path)
    config = lora.arguments()["lora_config"]
    assert ours.contract.fits(config, ours.contract.CLASSES["TorchLlmArgs"]["fields"]["lora_config"]["annotation"])
    assert (config.max_lora_rank, config.max_loras, config.max_cpu_loras, config.lora_dir) == (16, 2, 2, [])
    assert config.lora_target_modules == ["attn_q", "mlp_gate"]
    asked = lora.of(request(ours, own={"lora_task_id": 2}))
    assert (asked.lora_name, asked.lora_int_id, asked.lora_path) == ("a", 2, str(tmp_path / "adapters/a"))
    assert lora.of(request(ours, own={"lora_task_id": 0})) is None
    lora.check(request(ours, own={"lora_task_id": 2}))
    with pytest.raises(ours.faults.RequestError) as caught:
        lora.check(request(ours, own={"lora_task_id": 3}))
    assert caught.value.fault.tensor == "lora_task_id"


def request(ours: SimpleNamespace, **values: Any) -> Any:
    return ours.request.EngineRequest(prompt=np.array([1, 2]), max_tokens=9, **values)


def params(ours: SimpleNamespace, asked: Any, sequence: int = 0) -> dict[str, Any]:
    """The fields that differ from upstream's defaults."""
    made = vars(ours.sampling.SamplingTranslator(False, 7).params(asked, sequence))
    plain = vars(sys.modules["tensorrt_llm"].SamplingParams())
    return {name: value for name, value in made.items() if value != plain[name]}


ALWAYS = {
    "max_tokens": 9,
    "include_stop_str_in_output": True,
    "detokenize": False,
    "add_special_tokens": False,
}


def test_the_least_request(ours: SimpleNamespace) -> None:
    """Greedy, and with an end_id, without which TensorRT-LLM takes the tokenizer's."""
    assert params(ours, request(ours)) == {**ALWAYS, "end_id": -1, "top_k": 1}


def test_every_parameter_arrives(ours: SimpleNamespace) -> None:
    asked = request(
        ours, end_id=7, stop_words=((8,), (9, 9)), bad_words=((3,), (4,)), sampled=True, temperature=0.5, top_k=5,
        top_p=0.25, repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=-0.5, seed=2**64 - 1, min_tokens=2,
        log_probs=True,
    )  # fmt: skip
    assert params(ours, asked, 1) == {
        **ALWAYS, "end_id": 7, "stop_token_ids": [8], "bad_token_ids": [3, 4], "temperature": 0.5, "top_k": 5,
        "top_p": 0.25, "repetition_penalty": 1.5, "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 0,
        "min_tokens": 2, "logprobs": 1,
    }  # fmt: skip
    biased = request(ours, embedding_bias=np.array([0, 1.5], np.float32))
    assert params(ours, biased)["embedding_bias"].array.tolist() == [0, 1.5]


@pytest.mark.parametrize("values", [{"top_p": 1.0}, {"top_k": 4}, {"top_k": 4, "top_p": 0.5}])
def test_sampling_is_never_greedy_by_omission(ours: SimpleNamespace, values: dict[str, Any]) -> None:
    made = params(ours, request(ours, end_id=7, sampled=True, temperature=0.5, seed=3, **values))
    assert made == {**ALWAYS, "end_id": 7, "temperature": 0.5, "seed": 3, **values}


GUIDES = {
    "json": {"json_object": True},
    "json_schema": {"json": "{}"},
    "regex": {"regex": "{}"},
    "ebnf_grammar": {"grammar": "{}"},
}


@pytest.mark.parametrize("kind", GUIDES)
def test_guides(ours: SimpleNamespace, kind: str) -> None:
    """A guide ends with the tokenizer's end; the others, which the grammar takes for text, must not come."""
    asked = request(ours, end_id=8, stop_words=((7,), (9,)), guide=ours.guide.Guide(kind, "{}"))
    made = params(ours, asked)
    given = {name: value for name, value in vars(made.pop("guided_decoding")).items() if value}
    assert given == GUIDES[kind]
    assert made == {**ALWAYS, "end_id": 7, "bad_token_ids": [8, 9], "top_k": 1}


@pytest.mark.parametrize(
    ("values", "speculative", "guide_end", "tensor"),
    [
        ({"bad_words": ((3, 4),)}, False, 7, "bad_words_list"),
        ({"bad_words": ((3,),)}, True, 7, "bad_words_list"),
        ({"repetition_penalty": 1.5}, True, 7, "repetition_penalty"),
        ({"presence_penalty": 0.5}, True, 7, "presence_penalty"),
        ({"frequency_penalty": 0.5}, True, 7, "frequency_penalty"),
        ({"min_tokens": 2}, True, 7, "min_tokens"),
        ({"embedding_bias": np.ones(100, np.float32)}, True, 7, "embedding_bias"),
        ({"guide": "json"}, False, None, "guided_decoding_guide_type"),
        ({"guide": "json", "min_tokens": 3, "end_id": 7}, False, 7, "min_tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    ours: SimpleNamespace, values: dict[str, Any], speculative: bool, guide_end: int | None, tensor: str
) -> None:
    if "guide" in values:
        values = {**values, "guide": ours.guide.Guide(values["guide"], "")}
    ours.sampling.SamplingTranslator(False, 7).check(request(ours, end_id=7))
    with pytest.raises(ours.faults.RequestError) as caught:
        ours.sampling.SamplingTranslator(speculative, guide_end).check(request(ours, **values))
    assert caught.value.fault.tensor == tensor and tensor in caught.value.fault.message


def test_each_version_of_a_container_was_read() -> None:
    """1.2.0 lies between two that have all our model asks for; the newest is the oldest that none of them has."""
    served = {release.tensorrt_llm for release in releases.SERVING.values()}
    assert served - {"1.2.0"} == set(VERSIONS[:-1])


def test_what_our_model_imports_is_documented_at_each_version(ours: SimpleNamespace) -> None:
    documented = ours.contract.DATA.get("documented") or ours.contract.DATA["exported"]["llmapi"]
    assert {*RECORDS, "CapacitySchedulerPolicy", "RequestError"} <= set(documented)


def test_what_a_version_does_not_have_yet_is_not_taken_from_the_newest() -> None:
    fields = {version: api(version)["classes"]["SamplingParams"]["fields"] for version in VERSIONS}
    assert ["prompt_ignore_length" in each for each in fields.values()] == [False, True, True]
    asked = [api(version)["classes"]["BaseLLM"]["methods"]["generate_async"] for version in VERSIONS]
    assert ["trace_headers" in each for each in asked] == [False, True, True]


def test_a_field_that_upstream_does_not_have_fails(ours: SimpleNamespace) -> None:
    sampling = sys.modules["tensorrt_llm"].SamplingParams
    with pytest.raises(TypeError, match="unexpected keyword argument 'repeat_penalty'"):
        sampling(repeat_penalty=1.0)
    with pytest.raises(TypeError, match="_stop_word_ids"):
        sampling(_stop_word_ids=[[1, 2]])
    with pytest.raises(TypeError, match=r"SamplingParams\.max_tokens is 'many'"):
        sampling(max_tokens="many")
    with pytest.raises(ours.contract.NotUpstream, match="Executor"):
        ours.contract.exported("llmapi", "Executor")


def test_stop_words_of_several_tokens_are_ours(ours: SimpleNamespace) -> None:
    """Across responses; what came after one is dropped, and the engine gives the request up."""
    ended: list[bool] = []
    sequence = ours.active.LLMSequence(((5, 6),), result=SimpleNamespace(abort=lambda: ended.append(True)))

    def output(*tokens: int) -> SimpleNamespace:
        scores = [{token: SimpleNamespace(logprob=-0.5)} for token in tokens]
        return SimpleNamespace(token_ids_diff=[*tokens], logprobs_diff=scores, finish_reason=None)

    assert sequence.take(output(6, 5), True) == ([6, 5], [-0.5, -0.5])
    assert not sequence.finished
    assert sequence.take(output(6, 1, 2), True) == ([6], [-0.5])
    assert sequence.finished and ended == [True] and sequence.log_prob == -1.5


@pytest.mark.parametrize(
    ("asked", "end", "left"),
    [
        ({}, 7, ([5, 6], [-0.5, -0.5])),
        ({}, 8, ([5, 6, 7], [-0.5] * 3)),
        ({"stop_words": ((7,),)}, 7, ([5, 6, 7], [-0.5] * 3)),
        ({"stop_words": ((7,),), "guide": "json"}, 7, ([5, 6], [-0.5, -0.5])),
    ],
    ids=["the end", "another", "a stop word", "a guide's"],
)
def test_the_end_is_no_part_of_an_answer(
    ours: SimpleNamespace, asked: dict[str, Any], end: int, left: tuple[list[int], list[float]]
) -> None:
    """TorchSampler leaves it in, and TRTLLMSampler does not."""
    if "guide" in asked:
        asked = {**asked, "guide": ours.guide.Guide(asked["guide"], "")}
    (sequence,) = ours.active.Active.of(request(ours, **asked), SimpleNamespace(), end).sequences
    scores = [{token: SimpleNamespace(logprob=-0.5)} for token in (5, 6, 7)]
    output = SimpleNamespace(token_ids_diff=[5, 6, 7], logprobs_diff=scores, finish_reason="stop")
    assert sequence.take(output, True) == left
    assert sequence.finished and sequence.log_prob == sum(left[1])


def test_cached_tokens_are_told_where_upstream_has_them(ours: SimpleNamespace) -> None:
    output = SimpleNamespace(token_ids_diff=[5], logprobs_diff=[], finish_reason=None)
    names = ours.contract.CLASSES["GenerationResult"]["attributes"]
    assert ("cached_tokens" in names) == (ours.contract.DATA["version"] != "1.1.0")
    for told, expected in (({"cached_tokens": 1}, 1), ({}, -1)):
        active = ours.active.Active.of(request(ours), SimpleNamespace(), None)
        assert active.take(0, SimpleNamespace(outputs=[output], **told))
        assert active.outgoing.pieces[0].cached_tokens == expected
    with pytest.raises(ours.contract.NotUpstream):
        ours.contract.attribute("GenerationResult", "cached")


def test_requests_are_told_apart_however_alike(ours: SimpleNamespace) -> None:
    """A list of them is searched for one: prompts are arrays, which compare as arrays."""
    both = [ours.active.Active.of(request(ours), SimpleNamespace(), None) for _ in range(2)]
    both.remove(both[1])
    assert len(both) == 1
