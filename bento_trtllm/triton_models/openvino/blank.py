"""A language model that computes nothing: for what OpenVINO GenAI does only while it samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset15 as op
from openvino.op.util import Variable, VariableInfo

# The least head that paged attention on a CPU takes.
HEAD = 16


def write_blank(directory: Path, vocab_size: int) -> None:
    """Write a model whose logits, of so many tokens, are all 0, with what a pipeline's attention wants to find."""
    ids = _input("input_ids", [-1, -1], ov.Type.i64)
    mask = _input("attention_mask", [-1, -1], ov.Type.i64)
    position = _input("position_ids", [-1, -1], ov.Type.i64)
    beam = _input("beam_idx", [-1], ov.Type.i32)

    def shape(i: int) -> ov.Node:
        return op.gather(op.shape_of(ids), op.constant([i]), op.constant(0))

    swap = op.constant(np.array([0, 2, 1, 3]))
    hidden = op.multiply(op.unsqueeze(op.convert(position, "f32"), op.constant(2)), _zeros(1, 1, HEAD))
    heads = op.transpose(op.reshape(hidden, op.constant(np.array([0, 0, 1, HEAD])), special_zero=True), swap)
    empty = op.broadcast(op.constant(np.float32(0)), op.concat([shape(0), op.constant(np.array([1, 0, HEAD]))], 0))
    past: list[ov.Node] = []
    sinks: list[ov.Node] = []
    for kind in ("key", "value"):
        info = VariableInfo()
        info.data_shape, info.data_type = ov.PartialShape([-1, 1, -1, HEAD]), ov.Type.f32
        info.variable_id = f"past_key_values.0.{kind}present.0.{kind}"
        variable = Variable(info)
        kept = op.gather(op.read_value(empty, variable), beam, op.constant(0))
        past.append(op.concat([kept, heads], 2))
        sinks.append(op.assign(past[-1], variable))
    bias = op.multiply(
        op.convert(op.unsqueeze(op.unsqueeze(mask, op.constant(1)), op.constant(1)), "f32"), op.constant(np.float32(0))
    )
    attended = op.transpose(op.scaled_dot_product_attention(heads, past[0], past[1], bias), swap)
    flat = op.reshape(attended, op.constant(np.array([0, 0, HEAD])), special_zero=True)
    logits = op.matmul(op.reduce_sum(flat, op.constant([2]), keep_dims=True), _zeros(1, vocab_size), False, False)
    result = op.result(logits)
    result.output(0).get_tensor().set_names({"logits"})
    model = ov.Model([result], sinks, [ids, mask, position, beam], "blank")
    ov.save_model(model, str(directory / "openvino_model.xml"), compress_to_fp16=False)


def _input(name: str, shape: list[int], kind: ov.Type) -> ov.Node:
    node = op.parameter(shape, kind, name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def _zeros(*shape: int) -> ov.Node:
    return op.constant(np.zeros(shape, np.float32))
