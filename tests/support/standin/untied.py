"""The same model with an lm_head of its own: TensorRT-LLM 0.10.0 converts no other, and it answers the same."""

import json
import shutil
from pathlib import Path

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def untied(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint itself where it has one already; else a copy of it in `folder`, in one safetensors file."""
    config = json.loads((checkpoint / "config.json").read_text())
    if not config.get("tie_word_embeddings"):
        return checkpoint
    shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    # The length of a JSON header, the header, the bytes of all tensors.
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8:start]), raw[start:]
    first, last = header[EMBEDDINGS]["data_offsets"]
    header[HEAD] = {**header[EMBEDDINGS], "data_offsets": [len(data), len(data) + last - first]}
    text = json.dumps(header).encode()
    parts = (len(text).to_bytes(8, "little"), text, data, data[first:last])
    (folder / "model.safetensors").write_bytes(b"".join(parts))
    return folder
