"""Which LoRA adapters a replica has, as a router reads it (inference_pool.py)."""

from collections.abc import Collection


def adapters(names: Collection[str], *, ready: bool, now: float) -> str:
    """In the form of vLLM's `vllm:lora_requests_info`, which the protocol asks for; of none, nothing.

    An engine has all of its adapters loaded as soon as it is `ready`. `now` is Unix time, in seconds.
    """
    if not names:
        return ""
    family, all_of_them = "trtllm_lora_requests_info", ",".join(sorted(names))
    running, waiting = (all_of_them, "") if ready else ("", all_of_them)
    labels = f'max_lora="{len(names)}",running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
    return "\n".join(
        (
            f"# HELP {family} LoRA adapters that are loaded, and that are still to be; the value is the time.",
            f"# TYPE {family} gauge",
            f"{family}{{{labels}}} {now:.3f}",
        )
    )
