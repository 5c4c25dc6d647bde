"""What requests call the models of a service: by the name of a pack, or by those of its LoRA adapters."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bento_trtllm.errors import StoreError
from bento_trtllm.triton_models.shared.adapters import Adapters


def names(name: str, packed: Path) -> list[str]:
    """Of a pack that is called so: this name, and then its variants'."""
    return [name, *Adapters.read(packed / "engine").names]


def check_names(models: Sequence[Sequence[str]]) -> None:
    """Raise StoreError where requests could mean two by one of each model's names, of which the first is its own."""
    counts = Counter(name for names in models for name in names)
    both = next((name for name, count in counts.items() if count > 1), None)
    if both is None:
        return
    having = [names[0] for names in models if both in names]
    if len(having) == 1:
        raise StoreError(f"an adapter has the name {both}, which is the model's: give it another")
    raise StoreError(
        f"requests would call two of the models {both}, an adapter's name: {' and '.join(having)} do not go together"
    )
