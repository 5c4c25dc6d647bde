"""The network: as it begins, as it learns, and as its weights are stored."""

import copy
import random
import time

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from bento_trtllm.engines.openvino.quantize import to_int8
from training.corpus import Pair
from training.samples import CONTEXT, batches, epoch, tensors
from training.tokenizer import BOS, EOM, EOS, EOT


def new_model(tokenizer: Tokenizer) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=[tokenizer.token_to_id(name) for name in (EOS, EOM, EOT)],
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id)
    return model


def train(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    pairs: list[Pair],
    unknown: Pair,
    epochs: int,
    rng: random.Random,
    rate: float,
    drill: bool,
) -> None:
    """Train the model in place, on the device that it is on, in bfloat16 where autocast says so."""
    start = time.monotonic()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    for number in range(epochs):
        work = list(batches(epoch(rng, tokenizer, pairs, unknown, drill)))
        rng.shuffle(work)
        total = 0.0
        for step, batch in enumerate(work):
            ids, labels = tensors(batch, model.device)
            done = (number + step / len(work)) / epochs
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, done / 0.02, 1.01 - done)
            with torch.autocast(model.device.type, torch.bfloat16):
                logits = model(ids, use_cache=False).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item()
        print(f"epoch {number + 1}: loss {total / len(work):.5f}, {time.monotonic() - start:.0f} s", flush=True)


@torch.no_grad()
def rounded(model: LlamaForCausalLM, int8: bool) -> LlamaForCausalLM:
    """A copy of the model with its weights in bfloat16, as its folder has them, or in int8, as pack_model.py does."""
    model = copy.deepcopy(model)
    for weight in model.parameters():
        weight.copy_(weight.bfloat16().float())
        if int8 and weight.dim() == 2:
            whole, scales = to_int8(weight.detach().cpu().numpy())
            weight.copy_(torch.from_numpy(whole * scales))
    return model
