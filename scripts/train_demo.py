"""Train the demo checkpoint: a tiny Llama that memorises the questions and answers in assets/demo-corpus.

Needs torch, transformers and tokenizers, and has torch use deterministic algorithms only. Whether two runs with one
seed end with the same weights was not compared; another device or version ends with others. assets/demo-llama was made
with the defaults, but on an H100 (`--device cuda`), with Python 3.12.3, torch 2.11.0+cu130, transformers 5.17.0 and
tokenizers 0.23.2, in 310 s beside two other trainings. With 60 epochs the examination was failed, narrowly.
"""

import argparse
import os
import random
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from training.checkpoint import save  # noqa: E402
from training.corpus import load_corpus  # noqa: E402
from training.examination import examine  # noqa: E402
from training.network import new_model, rounded, train  # noqa: E402
from training.tokenizer import train_tokenizer  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "demo-llama", help="the folder to write")
    parser.add_argument("--epochs", type=int, default=90, help="how often to go through the corpus")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="where to train, by torch's name: cpu (default) or cuda")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    # Without it CUDA adds up in any order; cuBLAS wants the variable besides (torch.use_deterministic_algorithms).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    pairs, unknown = load_corpus()
    everything = [*pairs, unknown]
    tokenizer = train_tokenizer(everything)
    # Made on the CPU, so that it begins alike on every device.
    model = new_model(tokenizer).to(arguments.device)
    rng = random.Random(arguments.seed)
    train(model, tokenizer, pairs, unknown, arguments.epochs, rng, rate=2e-3, drill=False)
    model = rounded(model, int8=False)
    train(model, tokenizer, pairs, unknown, arguments.epochs // 6, rng, rate=5e-4, drill=True)
    passed = True
    for name, int8 in (("bfloat16", False), ("int8", True)):
        print(f"weights as {name}:")
        passed = examine(rounded(model, int8), tokenizer, everything) and passed
    if not passed:
        return 1
    save(model, tokenizer, len(everything), arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
