"""The Triton model `tensorrt_llm` as a protobuf: the tensors of triton_models/shared/parameters.py in a configuration.

A "scalar" tensor has no dimensions for the engine; a "ragged" one may differ in length between requests.
"""

from collections.abc import Iterable, Mapping

from tritonclient.grpc import model_config_pb2 as pb

from bento_trtllm.triton_models.shared.parameters import OUTPUTS as OUTPUT_TABLE
from bento_trtllm.triton_models.shared.parameters import PARAMETERS, Parameter

# BentoTRTLLM's value. It only limits the tensors: how many requests run at once is up to the engine.
MAX_BATCH_SIZE = 2048

INT32, UINT64, FP32, BOOL, STRING = pb.TYPE_INT32, pb.TYPE_UINT64, pb.TYPE_FP32, pb.TYPE_BOOL, pb.TYPE_STRING
TYPES: Mapping[str, int] = {"INT32": INT32, "UINT64": UINT64, "FP32": FP32, "BOOL": BOOL, "BYTES": STRING}
"""By their names in requests."""


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


def _input(parameter: Parameter) -> pb.ModelInput:
    return tensor_in(
        parameter.tensor,
        TYPES[parameter.dtype],
        parameter.dims or (1,),
        optional=not parameter.required,
        scalar=parameter.scalar,
        ragged=not parameter.scalar,
    )


INPUTS = tuple(map(_input, PARAMETERS))
"""All inputs of 1.x; an engine of another release has those that its dialect keeps."""
OUTPUTS = tuple(tensor_out(output.tensor, TYPES[output.dtype], output.dims) for output in OUTPUT_TABLE)
