"""The text of every token, for structured output: openvino_detokenizer.xml, by openvino_tokenizers.

The service sends token ids and reads token ids. Of a tokenizer OpenVINO GenAI needs only the vocabulary, which it takes
from this model's VocabDecoder (2026.4.1, src/cpp/src/tokenizer/tokenizer_impl.cpp), and an end token, which it takes
from config.json beside it. No grammar allows a token without text: control tokens have none, nor have rows of the
embedding that belong to no token.
"""

import json
from pathlib import Path

import openvino as ov
from openvino_tokenizers.tokenizer_pipeline import FuseStep, TokenizerPipeline, VocabDecoderStep
from tokenizers import Tokenizer

from bento_trtllm.checkpoint.checkpoint import Checkpoint
from bento_trtllm.engines.openvino.ir import save
from bento_trtllm.errors import CheckpointError
from bento_trtllm.text.vocabulary import token_bytes

DETOKENIZER, CONFIG = "openvino_detokenizer.xml", "config.json"


def read_vocabulary(path: Path, size: int) -> list[bytes]:
    """The bytes of each token of a byte-level tokenizer.json, padded to `size` tokens.

    Raises CheckpointError where it cannot be read, or has a token that the model lacks.
    """
    try:
        table = token_bytes(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises no narrower one
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
    if len(table) > size:
        raise CheckpointError(
            f"{path} has a token with the id {len(table) - 1}, but the model's vocabulary has {size:,} tokens"
        )
    return table + [b""] * (size - len(table))


def write_detokenizer(checkpoint: Checkpoint, vocabulary: list[bytes], directory: Path) -> None:
    """Write DETOKENIZER and CONFIG."""
    # OpenVINO loads no such model without tokens to skip (2026.4.1).
    decoder = VocabDecoderStep(vocabulary, skip_tokens=list(checkpoint.eos_ids))
    model = TokenizerPipeline([decoder, FuseStep()]).get_detokenizer_ov_subgraph()
    (ids,) = model.get_parameters()
    ids.set_element_type(ov.Type.i64)
    model.validate_nodes_and_infer_types()
    save(model, directory / DETOKENIZER)
    (directory / CONFIG).write_text(json.dumps({"eos_token_id": checkpoint.eos_ids[0]}), "utf-8")
