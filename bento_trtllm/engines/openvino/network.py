"""A decoder as an OpenVINO model, its weights left open: ir.py fills them in.

As OpenVINO GenAI's ContinuousBatchingPipeline wants a model (2026.4.1): inputs `input_ids`, `attention_mask` and
`position_ids`, int64 [batch, tokens], and `beam_idx`, int32 [batch]; output `logits`, f32 [batch, tokens, vocabulary];
a variable for each layer's keys and each layer's values, [batch, heads, tokens, head_dim], which its
SDPAToPagedAttention replaces by the paged KV cache. Everything but the weights is f32, rotary angles above all.
"""

from collections.abc import Sequence

import numpy as np
import openvino as ov
import openvino.opset15 as op
from numpy.typing import NDArray
from openvino.op.util import Variable, VariableInfo

from bento_trtllm.checkpoint.architectures.decoder import DecoderConfig
from bento_trtllm.engines.openvino.weights import EMBEDDING, HEAD, Part, Stored

SWAP = (0, 2, 1, 3)
"""[batch, tokens, heads, head_dim] to [batch, heads, tokens, head_dim], and back."""
AFTER = ".after"
"""What the name of a layer's last node ends with: shortened.py leaves layers out between two of them."""
MLP_BLOCK = 64
"""What a layer's sizes must be multiples of for LLMMLP with weights of 8 bits; it fails to load others."""
HIDDEN = -65504.0
"""What masks a score; attention in f16 must be able to hold it."""


class Network:
    """One checkpoint's decoder, with Llama's layers. Tensors have Hugging Face's names."""

    def __init__(self, config: DecoderConfig, weights: Sequence[Stored], frequencies: NDArray[np.float32]) -> None:
        """`frequencies` are radians a position, [head_dim / 2]."""
        self._config = config
        self._weights = {each.name: each for each in weights}
        self._frequencies = frequencies
        self._open: dict[str, ov.Node] = {}
        self._sinks: list[ov.Node] = []

    def build(self) -> ov.Model:
        """The model; each weight is still a Parameter, with the name of its part of the file."""
        config = self._config
        ids, mask, positions = (
            _input(name, [-1, -1], "i64") for name in ("input_ids", "attention_mask", "position_ids")
        )
        self._beams = _input("beam_idx", [-1], "i32")
        batch = op.gather(op.shape_of(ids), _whole([0]), _whole(0))
        shape = op.concat([batch, _whole([config.num_key_value_heads]), _whole([0]), _whole([config.head_dim])], 0)
        self._empty = op.broadcast(_real(0), shape)
        self._mask = _causal(ids, mask)
        self._turn = self._angles(positions)
        hidden = self._embed(ids)
        for i in range(config.num_hidden_layers):
            hidden = self._layer(hidden, i)
        hidden = self._norm(hidden, "model.norm")
        head = EMBEDDING if config.tie_word_embeddings else HEAD
        result = op.result(op.matmul(hidden, self._matrix(head), False, True))
        result.output(0).get_tensor().set_names({"logits"})
        inputs = [ids, mask, positions, self._beams, *self._open.values()]
        return ov.Model([result], self._sinks, inputs, config.architecture)

    def _layer(self, hidden: ov.Node, i: int) -> ov.Node:
        name = f"model.layers.{i}"
        attended = self._attention(self._norm(hidden, f"{name}.input_layernorm"), i)
        hidden = op.add(hidden, attended)
        inner = self._norm(hidden, f"{name}.post_attention_layernorm")
        gate = self._silu(self._linear(inner, f"{name}.mlp.gate_proj"))
        raised = op.multiply(gate, self._linear(inner, f"{name}.mlp.up_proj"))
        after = op.add(hidden, self._linear(raised, f"{name}.mlp.down_proj"))
        after.set_friendly_name(f"{name}{AFTER}")
        return after

    def _attention(self, hidden: ov.Node, i: int) -> ov.Node:
        config, name = self._config, f"model.layers.{i}.self_attn"
        queries = self._heads(hidden, f"{name}.q", config.num_attention_heads)
        keys = self._heads(hidden, f"{name}.k", config.num_key_value_heads)
        if config.is_turned(i):
            queries, keys = self._rotate(queries), self._rotate(keys)
        values = self._heads(hidden, f"{name}.v", config.num_key_value_heads)
        keys, values = self._remember(keys, i, "key"), self._remember(values, i, "value")
        attended = op.transpose(op.scaled_dot_product_attention(queries, keys, values, self._mask), _whole(SWAP))
        width = config.num_attention_heads * config.head_dim
        return self._linear(op.reshape(attended, _whole([0, 0, width]), special_zero=True), f"{name}.o_proj")

    def _remember(self, fresh: ov.Node, i: int, kind: str) -> ov.Node:
        """All keys or values up to these, one for each head of the queries."""
        config = self._config
        info = VariableInfo()
        info.data_shape = ov.PartialShape([-1, config.num_key_value_heads, -1, config.head_dim])
        info.data_type = ov.Type.f32
        # As optimum-intel calls them: transformations read the layer and the kind from it.
        info.variable_id = f"past_key_values.{i}.{kind}present.{i}.{kind}"
        variable = Variable(info)
        past = op.gather(op.read_value(self._empty, variable), self._beams, _whole(0))
        full = op.concat([past, fresh], 2)
        self._sinks.append(op.assign(full, variable))
        repeats = config.num_attention_heads // config.num_key_value_heads
        if repeats == 1:
            return full
        # The pattern of grouped queries that the transformation to paged attention knows.
        sizes = op.shape_of(full)
        before, behind = (op.gather(sizes, _whole(axes), _whole(0)) for axes in ([0, 1], [2, 3]))
        shape = op.concat([before, _whole([repeats]), behind], 0)
        repeated = op.broadcast(op.unsqueeze(full, _whole(2)), shape, "BIDIRECTIONAL")
        whole = _whole([0, config.num_attention_heads, -1, config.head_dim])
        return op.reshape(repeated, whole, special_zero=True)

    def _heads(self, x: ov.Node, name: str, count: int) -> ov.Node:
        """Queries, keys or values, [batch, heads, tokens, head_dim]; with a norm of each head where there is one."""
        flat = self._linear(x, f"{name}_proj")
        split = op.reshape(flat, _whole([0, 0, count, self._config.head_dim]), special_zero=True)
        if f"{name}_norm.weight" in self._weights:
            split = self._norm(split, f"{name}_norm")
        return op.transpose(split, _whole(SWAP))

    def _angles(self, positions: ov.Node) -> tuple[ov.Node, ov.Node]:
        """Cosine and sine, [batch, 1, tokens, head_dim]."""
        constant = op.constant(self._frequencies.reshape(1, 1, -1))
        constant.set_friendly_name("rotary.frequencies")
        half = op.multiply(op.unsqueeze(op.convert(positions, "f32"), _whole(2)), constant)
        angles = op.unsqueeze(op.concat([half, half], -1), _whole(1))
        return op.cos(angles), op.sin(angles)

    def _rotate(self, x: ov.Node) -> ov.Node:
        """Turn pairs (i, i + head_dim / 2) of a head's dimensions, as Hugging Face's checkpoints have them."""
        middle = self._config.head_dim // 2
        low = op.slice(x, _whole([0]), _whole([middle]), _whole([1]), _whole([3]))
        high = op.slice(x, _whole([middle]), _whole([2 * middle]), _whole([1]), _whole([3]))
        across = op.concat([op.multiply(high, _real(-1)), low], -1)
        cosine, sine = self._turn
        return op.add(op.multiply(x, cosine), op.multiply(across, sine))

    def _norm(self, x: ov.Node, name: str) -> ov.Node:
        mean = op.reduce_mean(op.power(x, _real(2)), _whole([-1]), keep_dims=True)
        root = op.sqrt(op.add(mean, _real(self._config.rms_norm_eps)))
        return op.multiply(op.multiply(x, op.divide(_real(1), root)), self._vector(f"{name}.weight"))

    def _silu(self, x: ov.Node) -> ov.Node:
        """Written so that OpenVINO 2026.4 takes its kernel for all three products of an MLP (LLMMLP of its CPU plugin)
        where that runs: it looks for a Swish of one input, which op.swish does not make."""
        sizes = self._config.hidden_size, self._config.intermediate_size
        if any(size % MLP_BLOCK for size in sizes):
            return op.swish(x)
        return op.multiply(x, op.sigmoid(x))

    def _linear(self, x: ov.Node, name: str) -> ov.Node:
        product = op.matmul(x, self._matrix(f"{name}.weight"), False, True)
        bias = f"{name}.bias"
        return op.add(product, self._vector(bias)) if bias in self._weights else product

    def _vector(self, name: str) -> ov.Node:
        return self._part(self._weights[name].parts[0])

    def _matrix(self, name: str) -> ov.Node:
        """A matrix in f32, [out, in]: what OpenVINO fuses with the product that it goes into."""
        stored = self._weights[name]
        values, *scales = map(self._part, stored.parts)
        if stored.precision == "f32":
            return values
        if stored.precision == "int8":
            return op.multiply(op.convert(values, "f32"), scales[0])
        if stored.precision == "int4":
            product = op.multiply(op.convert(values, "f16"), scales[0])
            return op.convert(op.reshape(product, _whole(stored.tensor.shape), special_zero=False), "f32")
        return op.convert(values, "f32")

    def _embed(self, ids: ov.Node) -> ov.Node:
        """The rows of the embedding alone are made f32."""
        rows = [op.convert(op.gather(self._part(p), ids, _whole(0)), "f32") for p in self._weights[EMBEDDING].parts]
        return op.multiply(*rows) if len(rows) > 1 else rows[0]

    def _part(self, part: Part) -> ov.Node:
        if part.name not in self._open:
            self._open[part.name] = op.parameter(list(part.shape), getattr(ov.Type, part.type), name=part.name)
        return self._open[part.name]


def _causal(ids: ov.Node, mask: ov.Node) -> ov.Node:
    """What is added to scores, [batch, 1, tokens, all tokens]: 0 for what a token may see."""
    count, whole = (op.gather(op.shape_of(x), _whole(1), _whole(0)) for x in (ids, mask))
    at = op.unsqueeze(op.range(op.subtract(whole, count), whole, _whole(1), "i64"), _whole(1))
    earlier = op.less_equal(op.unsqueeze(op.range(_whole(0), whole, _whole(1), "i64"), _whole(0)), at)
    given = op.convert(op.unsqueeze(mask, _whole([1, 2])), "boolean")
    return op.select(op.logical_and(op.unsqueeze(earlier, _whole([0, 1])), given), _real(0), _real(HIDDEN))


def _input(name: str, shape: list[int], kind: str) -> ov.Node:
    node = op.parameter(shape, getattr(ov.Type, kind), name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def _whole(values: int | Sequence[int]) -> ov.Node:
    return op.constant(np.array(values, np.int64))


def _real(value: float) -> ov.Node:
    return op.constant(np.float32(value))
