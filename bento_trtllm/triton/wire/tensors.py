"""The Triton model `tensorrt_llm` as a protobuf: the tensors that every engine shares.

Names, dtypes and dims are those of NVIDIA's inflight_batcher_llm in TensorRT-LLM 1.x
(triton_backend/all_models/inflight_batcher_llm/tensorrt_llm/config.pbtxt). All tensors have a batch
dimension of 1 in front that dims leave out; "scalar" is one that the engine sees without any dimension.
"""

from collections.abc import Iterable, Mapping

from tritonclient.grpc import model_config_pb2 as pb

# BentoTRTLLM's value. It is only the tensors' limit: how many requests run at once is the engine's affair.
MAX_BATCH_SIZE = 2048

INT32, INT64, UINT64 = pb.TYPE_INT32, pb.TYPE_INT64, pb.TYPE_UINT64
FP32, BOOL, STRING = pb.TYPE_FP32, pb.TYPE_BOOL, pb.TYPE_STRING


def tensor_in(
    name: str,
    dtype: int,
    dims: Iterable[int] = (1,),
    *,
    optional: bool = True,
    scalar: bool = False,
    ragged: bool = False,
) -> pb.ModelInput:
    """One input of a model's configuration."""
    return pb.ModelInput(
        name=name,
        data_type=dtype,
        dims=dims,
        optional=optional,
        allow_ragged_batch=ragged,
        reshape=pb.ModelTensorReshape(shape=[]) if scalar else None,
    )


def tensor_out(name: str, dtype: int, dims: Iterable[int] = (1,)) -> pb.ModelOutput:
    """One output of a model's configuration."""
    return pb.ModelOutput(name=name, data_type=dtype, dims=dims)


def parameters(values: Mapping[str, str]) -> dict[str, pb.ModelParameter]:
    """The `parameters` of a model's configuration."""
    return {name: pb.ModelParameter(string_value=value) for name, value in values.items()}


REQUIRED = (
    tensor_in("input_ids", INT32, [-1], ragged=True),
    tensor_in("input_lengths", INT32, optional=False, scalar=True),
    tensor_in("request_output_len", INT32, optional=False, scalar=True),
)

SAMPLING = (
    tensor_in("num_return_sequences", INT32, scalar=True),
    tensor_in("end_id", INT32, scalar=True),
    tensor_in("pad_id", INT32, scalar=True),
    tensor_in("stop_words_list", INT32, [2, -1], ragged=True),
    tensor_in("bad_words_list", INT32, [2, -1], ragged=True),
    tensor_in("embedding_bias", FP32, [-1], ragged=True),
    tensor_in("beam_width", INT32, scalar=True),
    tensor_in("temperature", FP32, scalar=True),
    tensor_in("runtime_top_k", INT32, scalar=True),
    tensor_in("runtime_top_p", FP32, scalar=True),
    tensor_in("runtime_top_p_min", FP32, scalar=True),
    tensor_in("runtime_top_p_decay", FP32, scalar=True),
    tensor_in("runtime_top_p_reset_ids", INT32, scalar=True),
    tensor_in("len_penalty", FP32, scalar=True),
    tensor_in("early_stopping", BOOL, scalar=True),
    tensor_in("repetition_penalty", FP32, scalar=True),
    tensor_in("min_tokens", INT32, scalar=True),
    tensor_in("beam_search_diversity_rate", FP32, scalar=True),
    tensor_in("presence_penalty", FP32, scalar=True),
    tensor_in("frequency_penalty", FP32, scalar=True),
    tensor_in("seed", UINT64, scalar=True),
)

# Strings, dims [1]: the kind of guide ("json", "json_schema", "regex", "ebnf_grammar"), and its text.
GUIDED = (
    tensor_in("guided_decoding_guide_type", STRING, ragged=True),
    tensor_in("guided_decoding_guide", STRING, ragged=True),
)

CONTROL = (
    tensor_in("return_log_probs", BOOL, scalar=True),
    tensor_in("return_context_logits", BOOL, scalar=True),
    tensor_in("return_generation_logits", BOOL, scalar=True),
    tensor_in("exclude_input_in_output", BOOL, scalar=True),
    tensor_in("stop", BOOL, scalar=True),
    tensor_in("streaming", BOOL, scalar=True),
)

# Of 1.x too, but it is not known since which: the service asks for none of them.
COUNTS_ASKED = (
    tensor_in("return_num_input_tokens", BOOL, scalar=True),
    tensor_in("return_num_output_tokens", BOOL, scalar=True),
)
COUNTS = (
    tensor_out("num_input_tokens", INT32),
    tensor_out("num_output_tokens", INT32),
)

OUTPUTS = (
    tensor_out("output_ids", INT32, [-1, -1]),
    tensor_out("sequence_length", INT32, [-1]),
    tensor_out("cum_log_probs", FP32, [-1]),
    tensor_out("output_log_probs", FP32, [-1, -1]),
    tensor_out("batch_index", INT32),
    tensor_out("sequence_index", INT32),
)
