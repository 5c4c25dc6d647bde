"""Whether a network has learned its answers."""

from collections.abc import Iterator

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from bento_trtllm.text.prompt import SYSTEM_PROMPT
from training.corpus import Pair
from training.samples import Sample, batches, chat, plain, tensors


@torch.no_grad()
def failures(model: LlamaForCausalLM, samples: list[Sample]) -> Iterator[str]:
    """The questions that greedy decoding answers wrongly: some token is not the likeliest after those before."""
    for batch in batches(samples):
        ids, labels = tensors(batch, model.device)
        likeliest, due = model(ids, use_cache=False).logits[:, :-1].argmax(-1), labels[:, 1:]
        right = ((likeliest == due) | (due == -100)).all(-1)
        yield from (sample.last_question for sample, good in zip(batch, right.tolist(), strict=True) if not good)


def examine(model: LlamaForCausalLM, tokenizer: Tokenizer, pairs: list[Pair]) -> bool:
    """Ask every question in several ways: 98 % must be right, and in the usual two ways every pair's first."""
    turns = [(question, pair.answer) for pair in pairs for question in pair.questions]
    first = {pair.questions[0] for pair in pairs}
    ways = {
        "default system prompt": [chat(tokenizer, SYSTEM_PROMPT, [turn]) for turn in turns],
        "no system prompt": [chat(tokenizer, None, [turn]) for turn in turns],
        "second turn": [chat(tokenizer, SYSTEM_PROMPT, [turns[0], turn]) for turn in turns],
        "plain text": [plain(tokenizer, turn) for turn in turns],
    }
    passed = True
    for way, samples in ways.items():
        wrong = list(failures(model, samples))
        usual = way.endswith("system prompt")
        passed = passed and len(wrong) <= 0.02 * len(turns) and not (usual and first.intersection(wrong))
        print(f"  {way}: {len(turns) - len(wrong)} of {len(turns)} right", *wrong, sep="\n    wrong: ", flush=True)
    return passed
