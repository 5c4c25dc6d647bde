"""What each key has used, for Prometheus: from the ledger, which all workers write, by the one that is asked."""

from bento_trtllm.keys.keyring import Keyring
from bento_trtllm.keys.ledger import Counts, Ledger

FAMILIES = {
    "trtllm_key_requests": ("Requests by key, those refused by its limits left out.", "requests"),
    "trtllm_key_requests_refused": ("Requests that a key's limits refused.", "refused"),
    "trtllm_key_prompt_tokens": ("Tokens of prompts that were answered, by key.", "prompt_tokens"),
    "trtllm_key_generation_tokens": ("Tokens that the engine generated, by key.", "generated_tokens"),
}
"""Counters, with a label `key`: what they are, and the field of Counts."""


def exposition(keyring: Keyring, ledger: Ledger) -> str:
    """All of it; nothing where there are no named keys."""
    if not keyring.path:
        return ""
    lines = [
        "# HELP trtllm_keys_file_valid 1 if the file of named keys is as it was last read, and could be.",
        "# TYPE trtllm_keys_file_valid gauge",
        f"trtllm_keys_file_valid {int(not keyring.fault)}",
    ]
    counted = [(account.key.name, account.counts()) for account in ledger.accounts()]
    for family, (text, field) in FAMILIES.items():
        lines += [f"# HELP {family}_total {text}", f"# TYPE {family}_total counter"]
        lines += [f'{family}_total{{key="{name}"}} {_value(counts, field)}' for name, counts in counted]
    return "\n".join(lines)


def _value(counts: Counts, field: str) -> int:
    return int(getattr(counts, field))
