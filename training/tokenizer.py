"""A byte-level BPE tokenizer with Llama 3's layout."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from bento_trtllm.text.prompt import SYSTEM_PROMPT
from training.corpus import Pair

VOCAB_SIZE = 2528
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


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids
