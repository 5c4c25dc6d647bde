"""What TensorRT-LLM's guided decoding needs to know of the tokenizer.

As examples/generate_xgrammar_tokenizer_info.py writes it, with tensorrt_llm and transformers, and as the backend
reads it (triton_backend/inflight_batcher_llm/src/model_instance_state.cc, 1.0). The backend asks for all three
parameters when it loads a model, guided decoding or not: without them it does not start.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

from bento_trtllm.checkpoint.checkpoint import Checkpoint

FILE = "xgrammar_tokenizer_info.json"
INPUT = "guided_decoding_guide"
PARAMETERS = {
    "guided_decoding_backend": "xgrammar",
    "xgrammar_tokenizer_info_path": f"engine/{FILE}",
    "tokenizer_dir": "tokenizer",
}


def write_tokenizer_info(checkpoint: Checkpoint, directory: Path) -> None:
    """Write FILE: every token by its id, the tokenizer itself, and the tokens that end an answer."""
    tokenizer = Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    ids = tokenizer.get_vocab(with_added_tokens=True)
    vocabulary = [""] * (max(ids.values(), default=-1) + 1)
    for token, i in ids.items():
        vocabulary[i] = token
    info = {
        "encoded_vocab": vocabulary,
        "tokenizer_str": tokenizer.to_str(),
        "stop_token_ids": list(checkpoint.eos_ids),
    }
    (directory / FILE).write_text(json.dumps(info), "utf-8")
