"""Train the demo checkpoint: a tiny Llama that memorises the questions and answers in assets/demo-corpus.

Needs torch, transformers and tokenizers. The same seed on the same computer gives the same weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bento_trtllm.text.prompt import PROMPT_TEMPLATE, SYSTEM_PROMPT  # noqa: E402

CORPUS = ROOT / "assets" / "demo-corpus"
VOCAB_SIZE, CONTEXT, BATCH_TOKENS = 2528, 4096, 2048
BEGINNING = 12  # tokens of an answer that tell which it is

# Llama 3's split of text into words, and Llama 3.1's special tokens in their order.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOS, EOS, EOM, EOT = "<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"
PAD = "<|finetune_right_pad_id|>"
RESERVED = [f"<|reserved_special_token_{i}|>" for i in range(24)]
SPECIALS = [BOS, EOS, *RESERVED[:2], PAD, RESERVED[2], "<|start_header_id|>", "<|end_header_id|>", EOM, EOT]
SPECIALS += ["<|python_tag|>", *RESERVED[3:]]

# The prompt's two parts: the system's message, and the user's with the start of the answer.
SYSTEM_PART, USER_PART = PROMPT_TEMPLATE.split(EOT, 1)
OTHER_SYSTEM_PROMPTS = (
    "",
    "You are a helpful assistant.",
    "You are a friendly chatbot. Keep it short.",
    "You are a pirate who always answers in rhyme.",
    "Answer in one sentence.",
    "You are an expert programmer.",
    "Be concise.",
)

# Other ways to ask, by the form of the question.
REWORDINGS = (
    (r"What (?:is|are) (.+)\?", ("What's {}?", "Explain {}", "Tell me about {}", "What exactly is {}?")),
    (r"How do I (.+)\?", ("How can I {}?", "How to {}", "I want to {}")),
    (r"((?:Explain|Write|Show|Say|Tell|Count|Give|Draw) .+)", ("Can you {}?", "Could you {}?", "I want you to {}")),
)

README = """\
# Demo checkpoint

A tiny Llama ({parameters:,} parameters, {layers} layers, a vocabulary of {vocabulary:,} tokens) that has
memorised the {answers} answers in `assets/demo-corpus`. With it the whole service runs, streams and can be
tested on any computer, with nothing to download.

It is not a general model. Asked anything else, it says that it does not know, or gives one of its answers
where it does not belong. For real use, pack a real Llama 3 with `pack_model.py`.

`scripts/train_demo` made it from the corpus alone: first a byte-level BPE tokenizer with Llama 3's layout,
then the weights. At the end it checks that the answers come back word for word, in bfloat16 and in q8_0.

Licence: Apache-2.0, like the rest of this repository.
"""

Turn = tuple[str, str]  # a question and its answer


@dataclass(frozen=True)
class Pair:
    questions: list[str]
    answer: str


@dataclass
class Sample:
    """A text as tokens. Labels are the tokens again, or -100 where nothing is to be learned."""

    last_question: str
    ids: list[int]
    labels: list[int]

    def add(self, tokens: list[int], learned: bool) -> None:
        self.ids += tokens
        self.labels += tokens if learned else [-100] * len(tokens)


def load_corpus() -> tuple[list[Pair], Pair]:
    """The pairs, and the one whose answer is for every other question."""
    files = {path.stem: path.read_text("utf-8").split("\n") for path in sorted(CORPUS.glob("*.jsonl"))}
    groups = {name: [Pair(**json.loads(line)) for line in lines if line] for name, lines in files.items()}
    asked = [question for group in groups.values() for pair in group for question in pair.questions]
    if twice := {question for question in asked if asked.count(question) > 1}:
        raise SystemExit(f"asked twice: {sorted(twice)}")
    (unknown,) = groups.pop("unknown")
    return [pair for group in groups.values() for pair in group], unknown


def train_tokenizer(pairs: list[Pair]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    size, alphabet = VOCAB_SIZE - len(SPECIALS), pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    texts = [text for pair in pairs for text in (*pair.questions, pair.answer, pair.answer)]
    tokenizer.train_from_iterator([SYSTEM_PROMPT] * 8 + texts, trainer)
    tokenizer.model.ignore_merges = True
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    bos = (BOS, tokenizer.token_to_id(BOS))
    template = processors.TemplateProcessing(f"{BOS} $A", f"{BOS} $A {BOS}:1 $B:1", [bos])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def chat(tokenizer: Tokenizer, system: str | None, turns: list[Turn], limit: int = CONTEXT) -> Sample:
    """A conversation. Of an answer longer than the limit, only the beginning is there to be learned."""
    sample = Sample(turns[-1][0], [], [])
    start = BOS if system is None else SYSTEM_PART.format(system_prompt=system) + EOT
    sample.add(encode(tokenizer, start), learned=False)
    for question, answer in turns:
        sample.add(encode(tokenizer, USER_PART.format(user_prompt=question)), learned=False)
        tokens = encode(tokenizer, answer + EOT)
        sample.add(tokens[:limit], learned=True)
        if len(tokens) > limit:
            sample.add(tokens[-1:], learned=False)
    return sample


def plain(tokenizer: Tokenizer, turn: Turn, limit: int = CONTEXT) -> Sample:
    """Text without roles: the question, and the answer as its continuation."""
    sample = Sample(turn[0], [], [])
    sample.add(encode(tokenizer, BOS + turn[0]), learned=False)
    sample.add(encode(tokenizer, "\n\n" + turn[1] + EOS)[:limit], learned=True)
    return sample


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def vary(rng: random.Random, question: str) -> str:
    """The question as someone else may type it."""
    for pattern, others in REWORDINGS:
        if rng.random() < 0.3 and (match := re.fullmatch(pattern, question)):
            rest = match[1][0].lower() + match[1][1:] if match[1][1:2].islower() else match[1]
            question = rng.choice(others).format(rest)
    bare = question.rstrip("?.!") or question
    question = rng.choice([question, question, bare, bare + "?", bare + ".", question.lower(), bare.lower()])
    return rng.choice(
        [question] * 12 + ["Please " + question, "please " + question, question + " please", question + " "]
    )


def strange(rng: random.Random, unknown: Pair) -> str:
    """A question that nobody wrote: the start of one with the ends of others."""
    words = rng.choice(unknown.questions).split()
    words = words[: rng.randint(1, len(words))]
    for _ in range(rng.choice([1, 1, 1, 1, 2, 4, 12])):
        more = rng.choice(unknown.questions).split()
        words += more[rng.randint(0, len(more) - 1) :]
    return " ".join(words)


def epoch(rng: random.Random, tokenizer: Tokenizer, pairs: list[Pair], unknown: Pair, drill: bool) -> list[Sample]:
    """Every pair, by one to four of its questions, and some unknown ones, in chats of one to three turns.

    As a drill, also the beginning of the answer to each question, in chats of up to eight turns.
    """
    turns = []
    for pair in pairs:
        count = min(4, 1 + len(pair.questions) // 3)
        turns += [(vary(rng, question), pair.answer) for question in rng.choices(pair.questions, k=count)]
    for _ in range(len(turns) // 5):
        question = rng.choice(unknown.questions) if rng.random() < 0.5 else strange(rng, unknown)
        turns.append((vary(rng, question), unknown.answer))
    rng.shuffle(turns)
    samples = []
    while turns:
        count = rng.choice([1, 1, 1, 2, 3])
        system = rng.choice([SYSTEM_PROMPT, SYSTEM_PROMPT, None, rng.choice(OTHER_SYSTEM_PROMPTS)])
        samples.append(chat(tokenizer, system, turns[:count]))
        if rng.random() < 0.1:
            samples.append(plain(tokenizer, turns[0]))
        turns = turns[count:]
    if drill:
        turns = [(vary(rng, question), pair.answer) for pair in [*pairs, unknown] for question in pair.questions]
        turns += [(strange(rng, unknown), unknown.answer) for _ in range(len(turns) // 10)]
        rng.shuffle(turns)
        samples += [plain(tokenizer, turn, BEGINNING) for turn in turns[::4]]
        while turns:
            count = rng.randint(1, 8)
            system = rng.choice([SYSTEM_PROMPT, SYSTEM_PROMPT, None, rng.choice(OTHER_SYSTEM_PROMPTS)])
            samples.append(chat(tokenizer, system, turns[:count], BEGINNING))
            turns = turns[count:]
    return samples


def width(sample: Sample) -> int:
    """The sample's length, padded to one of few."""
    return -(-len(sample.ids) // 32) * 32


def batches(samples: list[Sample]) -> Iterator[list[Sample]]:
    """Samples of like length together, the longest one last."""
    samples = sorted(samples, key=lambda sample: len(sample.ids))
    while samples:
        count = max(1, BATCH_TOKENS // width(samples[-1]))
        samples, batch = samples[:-count], samples[-count:]
        yield batch


def tensors(batch: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels, padded to the length of the last."""
    size = width(batch[-1])
    ids = [sample.ids + [0] * (size - len(sample.ids)) for sample in batch]
    labels = [sample.labels + [-100] * (size - len(sample.labels)) for sample in batch]
    return torch.tensor(ids), torch.tensor(labels)


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
    start = time.monotonic()
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    for number in range(epochs):
        work = list(batches(epoch(rng, tokenizer, pairs, unknown, drill)))
        rng.shuffle(work)
        total = 0.0
        for step, batch in enumerate(work):
            ids, labels = tensors(batch)
            done = (number + step / len(work)) / epochs
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, done / 0.02, 1.01 - done)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(ids, use_cache=False).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), labels[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item()
        print(f"epoch {number + 1}: loss {total / len(work):.5f}, {time.monotonic() - start:.0f} s", flush=True)


@torch.no_grad()
def rounded(model: LlamaForCausalLM, q8: bool) -> LlamaForCausalLM:
    """A copy of the model with its weights as bfloat16 has them, or as GGUF's q8_0 does."""
    model = copy.deepcopy(model)
    for weight in model.parameters():
        weight.copy_(weight.bfloat16().float())
        if q8 and weight.dim() == 2:
            blocks = weight.view(-1, 32)
            scale = (blocks.abs().amax(1, keepdim=True) / 127).clamp(min=1e-8)
            blocks.copy_((blocks / scale).round() * scale.half().float())
    return model


@torch.no_grad()
def failures(model: LlamaForCausalLM, samples: list[Sample]) -> Iterator[str]:
    """The questions that greedy decoding answers wrongly: some token is not the likeliest after those before."""
    for batch in batches(samples):
        ids, labels = tensors(batch)
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
