"""A packed IR with only some of its layers, in a directory of its own: with a graph of its own, and the weights where
they are.

OpenVINO reads only what leads to an IR's results and variables, and maps only the weights of that into memory
(2026.4.1): so a few layers of a large model cost what a small model does.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bento_trtllm.engines.openvino.ir import MODEL
from bento_trtllm.engines.openvino.network import AFTER


def shorten(engine: Path, layers: Sequence[int], directory: Path) -> None:
    """Fill a directory with an engine's model of those layers, in ascending order: the first of all and the last of all
    among them."""
    for file in engine.iterdir():
        if file.name != MODEL:
            (directory / file.name).symlink_to(file.resolve())
    graph = ET.parse(engine / MODEL)
    nodes, edges = graph.find("layers"), graph.find("edges")
    assert nodes is not None and edges is not None
    ids = {node.get("name"): node.get("id") for node in nodes}
    ends = {i: ids[f"model.layers.{i}{AFTER}"] for i in range(layers[-1] + 1)}
    instead = {ends[following - 1]: ends[kept] for kept, following in pairwise(layers)}
    for edge in edges:
        edge.set("from-layer", instead.get(edge.get("from-layer")) or str(edge.get("from-layer")))
    _drop_variables(nodes, edges, {i for i in ends if i not in layers})
    graph.write(directory / MODEL, encoding="utf-8", xml_declaration=True)


def _drop_variables(nodes: ET.Element, edges: ET.Element, layers: set[int]) -> None:
    """Take out what is kept for the next step: the rest of a layer is read only for that."""
    dropped = set()
    for node in list(nodes):
        data = node.find("data")
        name = data.get("variable_id", "") if data is not None else ""
        # As past_key_values.3.keypresent.3.key.
        if node.get("type") == "Assign" and int(name.split(".")[1]) in layers:
            dropped.add(node.get("id"))
            nodes.remove(node)
    for edge in list(edges):
        if edge.get("to-layer") in dropped:
            edges.remove(edge)
