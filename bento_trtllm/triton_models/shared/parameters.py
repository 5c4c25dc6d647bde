"""The tensors of the Triton model `tensorrt_llm`: one table, for the service and for the models that Triton loads.

It drives how the service encodes a request (triton/wire/codec.py), the model's configuration (triton/wire/tensors.py),
what other releases call a tensor or lack (triton/wire/dialects.py), how our own engine models read a request
(request.py), which field of the API an engine's refusal is about, and a table in docs/openai.md. A new parameter is a
row here, and its meaning where it is used: generation/ gives it a value, an engine heeds it.

Names, dtypes and dims are those of NVIDIA's inflight_batcher_llm in TensorRT-LLM 1.x (triton_backend/all_models/
inflight_batcher_llm/tensorrt_llm/config.pbtxt); tests/contract holds each row against every release that was read.
All tensors have a batch dimension of 1 in front that dims leave out. This file needs nothing but Python: it is copied
beside the models, which stand alone.
"""

from __future__ import annotations

from dataclasses import dataclass

INT32_MAX = 2**31 - 1
FIRST = "0.10.0"
"""The first TensorRT-LLM that was read."""
OWN = "99.0.0"
"""Of no TensorRT-LLM: NVIDIA's backend is no longer made, and never had it."""
STOP_IDS = "stop_ids"
"""The input with which requests whose clients have left are ended, whichever they are."""
MOST_SCORES = 20
"""How many of the likeliest tokens a request may ask for at each place: OpenAI's bound."""
EVERY: tuple[str, ...] = ()
NVIDIA = ("tensorrt",)
GPU = ("tensorrt", "pytorch")
OURS = ("openvino", "pytorch")
PYTORCH = ("pytorch",)
CPU = ("openvino",)
FORMS = (
    *("response_format", "structured_outputs", "structural_tag"),
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
)
"""Fields of the API that say what an answer must be: all of them become a grammar in EBNF."""


@dataclass(frozen=True)
class Parameter:
    """An input tensor. `default` is what a request without it asks for, and `low` and `high` bound its value."""

    tensor: str
    dtype: str
    """INT32, UINT64, FP32, BOOL or BYTES, as in Triton's requests."""
    dims: tuple[int, ...] = ()
    """() is a scalar: dims [1], which the engine sees without any dimension. [2, -1] is a list of words. -1 is open."""
    field: str = ""
    """Of TokenRequest; "" where the service never sends it."""
    api: tuple[str, ...] = ()
    """Fields of a request to the service that end here; an error names the first."""
    engines: tuple[str, ...] = EVERY
    """Those that do what it asks; EVERY is all of them. Others take its default alone."""
    since: str = FIRST
    """The first TensorRT-LLM that has it, under either name."""
    before_1: str = ""
    """What releases before 1.0 call it; "" is the same."""
    default: int | float | bool | None = None
    low: int | float | None = None
    high: int | float | None = None
    required: bool = False
    called: str = ""
    """By engines that refuse what it asks; "" is the tensor."""
    instead: str = ""
    """What they do in its place; "" is its default."""

    @property
    def scalar(self) -> bool:
        return not self.dims

    @property
    def words(self) -> bool:
        return self.dims == (2, -1)

    def done_by(self, engine: str) -> bool:
        """Whether the engine of that name does what it asks."""
        return not self.engines or engine in self.engines


@dataclass(frozen=True)
class Output:
    """An output tensor."""

    tensor: str
    dtype: str
    dims: tuple[int, ...] = (1,)
    api: tuple[str, ...] = ()
    since: str = FIRST


PARAMETERS = (
    # Who continues: an adapter by its number (adapters.py), 0 is none.
    Parameter("lora_task_id", "UINT64", (), "adapter", ("model",), PYTORCH, default=0),
    # What to continue, and for how long.
    Parameter("input_ids", "INT32", (-1,), "input_ids", ("prompt", "messages")),
    Parameter("input_lengths", "INT32", (), "input_length", required=True),
    Parameter(
        "request_output_len",
        "INT32",
        (),
        "max_tokens",
        ("max_tokens", "max_completion_tokens"),
        low=0,
        high=INT32_MAX,
        required=True,
    ),
    # What ends it, and what must not come.
    Parameter("num_return_sequences", "INT32", since="0.14.0", default=1, low=1, high=256),
    Parameter("end_id", "INT32", (), "end_id"),
    Parameter("pad_id", "INT32"),
    Parameter("stop_words_list", "INT32", (2, -1), "stop_words"),
    Parameter("bad_words_list", "INT32", (2, -1), "bad_words", ("logit_bias",)),
    Parameter(
        "embedding_bias",
        "FP32",
        (-1,),
        "embedding_bias",
        ("logit_bias",),
        GPU,
        called="logit_bias other than -100 (embedding_bias)",
        instead="ban the token with -100 (bad_words_list)",
    ),
    # How tokens are chosen.
    Parameter("beam_width", "INT32", engines=NVIDIA, default=1),
    Parameter("temperature", "FP32", (), "temperature", ("temperature",), default=1.0, low=0.0, high=1e6),
    Parameter("runtime_top_k", "INT32", (), "top_k", ("top_k",), default=0, low=0, high=INT32_MAX),
    Parameter("runtime_top_p", "FP32", (), "top_p", ("top_p",), default=0.0, low=0.0, high=1.0),
    Parameter("runtime_min_p", "FP32", (), "min_p", ("min_p",), OURS, OWN, default=0.0, low=0.0, high=1.0),
    Parameter("runtime_top_p_min", "FP32", engines=NVIDIA, default=1e-6),
    Parameter("runtime_top_p_decay", "FP32", engines=NVIDIA, default=1.0),
    Parameter("runtime_top_p_reset_ids", "INT32", engines=NVIDIA, default=-1),
    Parameter("len_penalty", "FP32", engines=NVIDIA, default=1.0),
    Parameter("early_stopping", "BOOL", engines=NVIDIA, default=False),
    Parameter(
        "repetition_penalty",
        "FP32",
        (),
        "repetition_penalty",
        ("repetition_penalty",),
        default=1.0,
        low=1e-6,
        high=1e6,
    ),
    Parameter(
        "min_tokens",
        "INT32",
        (),
        "min_tokens",
        ("min_tokens",),
        before_1="min_length",
        default=0,
        low=0,
        high=INT32_MAX,
    ),
    Parameter("beam_search_diversity_rate", "FP32", engines=NVIDIA, default=0.0),
    Parameter("presence_penalty", "FP32", (), "presence_penalty", ("presence_penalty",), default=0.0),
    Parameter("frequency_penalty", "FP32", (), "frequency_penalty", ("frequency_penalty",), default=0.0),
    Parameter("seed", "UINT64", (), "seed", ("seed",), before_1="random_seed", default=0),
    # Strings: the kind of guide ("json", "json_schema", "regex", "ebnf_grammar"), and its text.
    Parameter("guided_decoding_guide_type", "BYTES", (1,), "guide_kind", FORMS, since="0.20.0"),
    Parameter(
        "guided_decoding_guide",
        "BYTES",
        (1,),
        "guide_text",
        (*FORMS, "tools", "tool_choice"),
        since="0.20.0",
    ),
    # How the answer comes.
    Parameter("return_log_probs", "BOOL", (), "log_probs", ("logprobs", "top_logprobs"), default=False),
    # How many of the likeliest tokens come with each token of the answer, and of the prompt; -1: no scores at all.
    Parameter(
        "num_top_log_probs",
        "INT32",
        (),
        "top_log_probs",
        ("top_logprobs", "logprobs"),
        CPU,
        OWN,
        default=0,
        low=0,
        high=MOST_SCORES,
    ),
    Parameter(
        "num_prompt_log_probs",
        "INT32",
        (),
        "prompt_log_probs",
        ("prompt_logprobs", "echo"),
        CPU,
        OWN,
        default=-1,
        low=-1,
        high=MOST_SCORES,
    ),
    Parameter("return_context_logits", "BOOL", engines=NVIDIA, default=False),
    Parameter("return_generation_logits", "BOOL", engines=NVIDIA, default=False),
    Parameter("exclude_input_in_output", "BOOL", since="0.14.0"),
    Parameter("stop", "BOOL", default=False),
    # The request that has it asks for nothing itself.
    Parameter(STOP_IDS, "BYTES", (-1,), engines=OURS, since=OWN),
    Parameter("streaming", "BOOL", (), "streaming", default=False),
    Parameter("return_num_input_tokens", "BOOL", engines=OURS, since="1.3.0", default=False),
    Parameter("return_num_output_tokens", "BOOL", engines=OURS, since="1.3.0", default=False),
)

OUTPUTS = (
    Output("output_ids", "INT32", (-1, -1)),
    Output("sequence_length", "INT32", (-1,)),
    Output("cum_log_probs", "FP32", (-1,)),
    Output("output_log_probs", "FP32", (-1, -1), ("logprobs", "top_logprobs")),
    Output("batch_index", "INT32", since="0.12.0"),
    Output("sequence_index", "INT32", since="0.14.0"),
    Output("num_input_tokens", "INT32", since="1.3.0"),
    Output("num_output_tokens", "INT32", since="1.3.0"),
    # Of the prompt, what was in the KV cache before; -1 where the engine does not tell.
    Output("num_cached_tokens", "INT32", since=OWN),
    # For each token of output_ids, the likeliest at its place.
    Output("top_token_ids", "INT32", (-1, -1, -1), since=OWN),
    Output("top_log_probs", "FP32", (-1, -1, -1), since=OWN),
    # For each token of the prompt but the first: its own score and rank (1 is the likeliest), and the likeliest there.
    Output("prompt_log_probs", "FP32", (-1,), since=OWN),
    Output("prompt_ranks", "INT32", (-1,), since=OWN),
    Output("prompt_top_token_ids", "INT32", (-1, -1), since=OWN),
    Output("prompt_top_log_probs", "FP32", (-1, -1), since=OWN),
)

API_FIELDS = {row.tensor: row.api[0] for row in (*PARAMETERS, *OUTPUTS) if row.api}
"""The field of a request to the service that an engine's refusal of a tensor is about."""
