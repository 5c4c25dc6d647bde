"""A request as Triton's protobuf message: the tensors of triton_models/shared/parameters.py, as raw bytes.

How each tensor is encoded is decided once, when this is imported; a request goes through a list of functions.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from bento_trtllm.generation.source import TokenRequest
from bento_trtllm.triton.wire.model_config import ENGINE
from bento_trtllm.triton_models.shared.parameters import PARAMETERS, STOP_IDS, Parameter
from bento_trtllm.triton_models.shared.words import join_words

IDS = "output_ids"
SCORES = "output_log_probs"
CACHED = "num_cached_tokens"
TOP_IDS, TOP_SCORES = "top_token_ids", "top_log_probs"
PROMPT_SCORES, PROMPT_RANKS = "prompt_log_probs", "prompt_ranks"
PROMPT_TOP_IDS, PROMPT_TOP_SCORES = "prompt_top_token_ids", "prompt_top_log_probs"
NO_NAMES: Mapping[str, str] = {}

Packed = tuple[Sequence[int], bytes]
"""A tensor's shape, with the batch dimension, and its values in little-endian order."""

DERIVED: Mapping[str, Callable[[TokenRequest], Any]] = {
    "input_length": lambda request: len(request.input_ids),
    "streaming": lambda request: True,
    "guide_kind": lambda request: request.guide[0] if request.guide else None,
    "guide_text": lambda request: request.guide[1] if request.guide else None,
}
"""Fields of the table that are not fields of a request, but are derived from them."""


def _scalar(code: str) -> Callable[[Any], Packed]:
    pack = struct.Struct(f"<{code}").pack
    return lambda value: ((1, 1), pack(value))


def _row(code: str) -> Callable[[Any], Packed]:
    return lambda values: ((1, len(values)), struct.pack(f"<{len(values)}{code}", *values))


def _words(words: Sequence[Sequence[int]]) -> Packed:
    flat, ends = join_words(words)
    return (1, 2, len(flat)), struct.pack(f"<{2 * len(flat)}i", *flat, *ends)


def _text(text: str) -> Packed:
    raw = text.encode()
    return (1, 1), struct.pack("<I", len(raw)) + raw


CODES = {"INT32": "i", "UINT64": "Q", "FP32": "f", "BOOL": "?"}
"""Format characters of `struct`."""


def _packer(parameter: Parameter) -> Callable[[Any], Packed]:
    if parameter.dtype == "BYTES":
        return _text
    if parameter.words:
        return _words
    return (_scalar if parameter.scalar else _row)(CODES[parameter.dtype])


def _omitted_if_empty(parameter: Parameter) -> bool:
    """Whether the tensor is left out if it is an unset flag or an empty list. A prompt never is."""
    return parameter.dtype == "BOOL" or not (parameter.scalar or parameter.tensor == "input_ids")


SENT = tuple(
    (row.tensor, row.dtype, DERIVED.get(row.field) or attrgetter(row.field), _packer(row), _omitted_if_empty(row))
    for row in PARAMETERS
    if row.field
)
"""For each tensor that the service sends: name, dtype, its value for a request, its packer, and _omitted_if_empty."""


def encode(
    request: TokenRequest, names: Mapping[str, str] = NO_NAMES, outputs: Sequence[str] = (IDS,)
) -> pb.ModelInferRequest:
    """The protobuf message of a request; what it leaves to the engine is not sent.

    `names` has the tensors whose names in the engine's release differ from TensorRT-LLM 1.x; `outputs` are those to ask
    for in every request.
    """
    message = pb.ModelInferRequest(model_name=ENGINE)
    if request.log_probs:
        outputs = (*outputs, SCORES)
    if request.top_log_probs:
        outputs = (*outputs, TOP_IDS, TOP_SCORES)
    if request.prompt_log_probs is not None:
        outputs = (*outputs, PROMPT_SCORES, PROMPT_RANKS, PROMPT_TOP_IDS, PROMPT_TOP_SCORES)
    for name in outputs:
        message.outputs.add(name=name)
    add, append = message.inputs.add, message.raw_input_contents.append
    for tensor, dtype, value_of, pack, omitted_if_empty in SENT:
        value = value_of(request)
        if value is None or (omitted_if_empty and not value):
            continue
        shape, raw = pack(value)
        add(name=names.get(tensor, tensor), datatype=dtype, shape=shape)
        append(raw)
    return message


def probe() -> pb.ModelInferRequest:
    """The probe: a minimal request that only the engine's own loop can answer, with one token; its outputs exist in any
    engine.

    It does not use `stop`: NVIDIA's backend answers that in Triton's thread, even while its Executor hangs, and never
    frees what it made for the answer (sendEnqueueResponse in model_instance_state.cc, 0.10.0 to 1.3.0rc3).
    """
    return encode(TokenRequest([0], 1), outputs=(IDS, "sequence_length"))


def stop(ids: Sequence[str]) -> pb.ModelInferRequest:
    """What ends the requests of those ids, in an engine that has that input (triton_models/shared/intake.py)."""
    message = probe()
    message.inputs.add(name=STOP_IDS, datatype="BYTES", shape=(1, len(ids)))
    message.raw_input_contents.append(b"".join(_text(each)[1] for each in ids))
    return message
