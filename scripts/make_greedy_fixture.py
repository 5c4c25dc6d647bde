"""Write tests/data/greedy.json: what transformers answers greedily on the demo checkpoint, as token ids.

Needs torch and transformers (the extra `train`). Run it again whenever the demo checkpoint changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bento_trtllm.text.prompt import PROMPT_TEMPLATE, SYSTEM_PROMPT  # noqa: E402

NEW_TOKENS = 64
LONG_TOKENS = 600
# A closer call than this may fall otherwise in another library, and says nothing about either.
MARGIN = 1e-3

QUESTIONS = (
    "Explain superconductors in plain English",
    "What is Triton?",
    "Say hello in Japanese",
    "Say hello in Arabic",
    "What is the capital of Mongolia?",
)


def prompts() -> dict[str, str]:
    """Each question as the service asks it, and last the first of them after a long talk."""
    asked = {
        question: PROMPT_TEMPLATE.format(system_prompt=SYSTEM_PROMPT, user_prompt=question) for question in QUESTIONS
    }
    lines = (ROOT / "assets" / "demo-corpus" / "superconductors.jsonl").read_text("utf-8").splitlines()
    # From the user's turn on: the system's message stands only at the start.
    turn = PROMPT_TEMPLATE.split("<|eot_id|>", 1)[1]
    talk = PROMPT_TEMPLATE.format(system_prompt=SYSTEM_PROMPT, user_prompt="Hello")
    for pair in map(json.loads, lines[-8:]):
        talk += pair["answer"] + "<|eot_id|>" + turn.format(user_prompt=pair["questions"][0])
    return asked | {"a long talk": talk}


@torch.no_grad()
def continue_greedily(model: LlamaForCausalLM, ids: list[int]) -> tuple[list[int], float]:
    """The likeliest NEW_TOKENS tokens, past any end token, and the least lead of one over the second best."""
    cache, step, out, lead = None, torch.tensor([ids]), [], float("inf")
    for _ in range(NEW_TOKENS):
        result = model(step, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        best, second = result.logits[0, -1].topk(2).values.tolist()
        step = result.logits[:, -1].argmax(-1, keepdim=True)
        lead = min(lead, best - second)
        out.append(int(step))
    return out, lead


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "assets" / "demo-llama")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data" / "greedy.json")
    arguments = parser.parse_args()
    model = LlamaForCausalLM.from_pretrained(arguments.checkpoint, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(arguments.checkpoint / "tokenizer.json"))
    cases = []
    for name, text in prompts().items():
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        out, lead = continue_greedily(model, ids)
        print(f"{name}: {len(ids)} tokens, lead {lead:.4f}: {tokenizer.decode(out)!r}")
        if lead < MARGIN:
            raise SystemExit(f"{name}: two tokens are as good as equal; choose another prompt")
        cases.append({"name": name, "input_ids": ids, "output_ids": out})
    if max(len(case["input_ids"]) for case in cases) < LONG_TOKENS:
        raise SystemExit(f"no prompt has {LONG_TOKENS} tokens")
    weights = hashlib.sha256((arguments.checkpoint / "model.safetensors").read_bytes()).hexdigest()
    lines = ",\n".join(json.dumps(case) for case in cases)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(f'{{"weights_sha256": "{weights}", "cases": [\n{lines}\n]}}\n', "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
