"""Write tests/data/logits.json: the log probabilities that transformers gives tiny random models of each architecture.

Needs torch and transformers (the extra `train`). tests/support/oracle.py makes the models from fixed seeds, so that
the tests make the same ones again. Run it again when an architecture is added to CASES.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.oracle import CASES, DATA, made, prompt  # noqa: E402


@torch.no_grad()
def main() -> int:
    found = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            model = AutoModelForCausalLM.from_pretrained(made(case, Path(folder)), dtype=torch.float32).eval()
            assert type(model).__name__ == CASES[case]["config"]["architectures"][0]
            ids = torch.tensor([prompt(case)])
            scores = model(ids).logits[0].double().log_softmax(-1)
            found[case] = [round(value, 6) for value in scores[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(values)}" for case, values in found.items())
    DATA.write_text(f'{{"versions": {json.dumps(versions)}, "log_probs": {{\n{lines}\n}}}}\n', "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
