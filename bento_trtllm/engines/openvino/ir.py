"""Writing a checkpoint as an OpenVINO IR: openvino_model.xml, the graph, and openvino_model.bin, the weights.

`ov.save_model` wants every constant in memory at once. So the graph is saved with its weights as inputs, which become
constants of the file when they are written: an input and a constant differ in the layer's type and, for the latter, in
where its bytes begin in the .bin (openvino's docs, "Operation Sets in OpenVINO": IR v11; read back by tests).
"""

import errno
import os
import xml.etree.ElementTree as ET
from collections.abc import Collection, Sequence
from pathlib import Path

import openvino as ov
from tqdm import tqdm

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.engines.openvino.network import Network
from bento_trtllm.engines.openvino.rotary import frequencies
from bento_trtllm.engines.openvino.weights import Part, Stored

MODEL, WEIGHTS = "openvino_model.xml", "openvino_model.bin"
"""As OpenVINO GenAI looks for them."""


def write_ir(checkpoint: Checkpoint, weights: Sequence[Stored], directory: Path) -> None:
    """Write MODEL and WEIGHTS. Raises CheckpointError for a weight that its precision cannot hold, or OSError."""
    config = checkpoint.config
    model = Network(config, weights, frequencies(config)).build()
    graph = save(model, directory / MODEL)
    layers = {layer.get("name", ""): layer for layer in graph.iterfind("layers/layer")}
    total = sum(part.elements for each in weights for part in each.parts[:1])
    with (
        (directory / WEIGHTS).open("ab") as file,
        tqdm(total=total, desc=WEIGHTS, unit="weight", unit_scale=True, disable=None) as bar,
    ):
        for each in weights:
            for part, begin in each.write(file, bar.update):
                _fill(layers[part.name], part, begin)
    _keep_halves(graph, {layers[part.name].get("id") for each in weights for part in each.parts if part.is_half})
    graph.write(directory / MODEL, encoding="utf-8", xml_declaration=True)


def save(model: ov.Model, path: Path) -> "ET.ElementTree[ET.Element]":
    """Write a model's .xml and .bin, and return the former. Raises OSError, which `ov.save_model` does not do."""
    try:
        # f32 must stay f32, which by default becomes f16: rotary frequencies would be off by up to 0.9 %.
        ov.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:
        if "iostream" not in str(error):
            raise
        # The library does not say why (2026.4.1).
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
    return ET.parse(path)


def _fill(layer: ET.Element, part: Part, begin: int) -> None:
    """Make an input of the graph a constant whose bytes begin there in WEIGHTS."""
    layer.set("type", "Const")
    data = layer.find("data")
    assert data is not None
    data.set("offset", str(begin))
    data.set("size", str(part.nbytes))


def _keep_halves(graph: "ET.ElementTree[ET.Element]", constants: Collection[str | None]) -> None:
    """Mark what converts f16 and bf16 weights to f32, as OpenVINO marks what it compressed itself.

    Otherwise it converts all of them while it loads, and needs four times their memory.
    """
    layers = {layer.get("id"): layer for layer in graph.iterfind("layers/layer")}
    for edge in graph.iterfind("edges/edge"):
        layer = layers[edge.get("to-layer")]
        if edge.get("from-layer") in constants and layer.get("type") == "Convert":
            ET.SubElement(ET.SubElement(layer, "rt_info"), "attribute", name="decompression", version="0")
