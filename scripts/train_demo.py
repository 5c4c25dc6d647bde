"""Train the demo checkpoint: a tiny Llama that memorises the questions and answers in assets/demo-corpus.

Needs torch, transformers and tokenizers. The same seed on the same computer gives the same weights.
"""

import argparse
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
    parser.add_argument("--epochs", type=int, default=60, help="how often to go through the corpus")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    pairs, unknown = load_corpus()
    everything = [*pairs, unknown]
    tokenizer = train_tokenizer(everything)
    model = new_model(tokenizer)
    rng = random.Random(arguments.seed)
    train(model, tokenizer, pairs, unknown, arguments.epochs, rng, rate=2e-3, drill=False)
    model = rounded(model, q8=False)
    train(model, tokenizer, pairs, unknown, arguments.epochs // 6, rng, rate=5e-4, drill=True)
    passed = True
    for name, q8 in (("bfloat16", False), ("q8_0", True)):
        print(f"weights as {name}:")
        passed = examine(rounded(model, q8), tokenizer, everything) and passed
    if not passed:
        return 1
    save(model, tokenizer, len(everything), arguments.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
