"""The checkpoint's folder."""

import copy
import json
import shutil
import tempfile
from pathlib import Path

from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from training.corpus import CORPUS
from training.samples import CONTEXT
from training.tokenizer import BOS, EOT, PAD

README = """\
# Demo checkpoint

A tiny Llama ({parameters:,} parameters, {layers} layers, a vocabulary of {vocabulary:,} tokens) that has
memorised the {answers} answers in `assets/demo-corpus`. With it the whole service runs, streams and can be
tested on any computer, with nothing to download.

It is not a general model. Asked anything else, it says that it does not know, or gives one of its answers
where it does not belong. For real use, pack a real model with `pack_model.py`.

`scripts/train_demo` made it from the corpus alone: first a byte-level BPE tokenizer with Llama 3's layout,
then the weights. At the end it checks that the answers come back word for word, in bfloat16 and in int8.

Licence: Apache-2.0, like the rest of this repository.
"""


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, answers: int, out: Path) -> None:
    """Write the folder beside its place, then swap it in."""
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    copy.deepcopy(model).bfloat16().save_pretrained(new)
    tokenizer.save(str(new / "tokenizer.json"))
    settings = {
        "bos_token": BOS,
        "chat_template": (CORPUS / "chat_template.jinja").read_text("utf-8").rstrip("\n"),
        "clean_up_tokenization_spaces": False,
        "eos_token": EOT,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": CONTEXT,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (new / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    size, layers = model.num_parameters(), model.config.num_hidden_layers
    readme = README.format(parameters=size, layers=layers, vocabulary=model.config.vocab_size, answers=answers)
    (new / "README.md").write_text(readme, "utf-8")
    new.chmod(0o755)
    for file in new.iterdir():
        file.chmod(0o644)
    old = new.with_name(new.name + "-old")
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)
