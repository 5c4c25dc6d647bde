"""Python's garbage collector. All streams of a worker pause while it runs: rarely (bento_trtllm/__init__.py says how
rarely), and with little to do.
"""

import gc


def leave_out() -> None:
    """Leave out what is there now, in a process that only waits: else it looks through all of it at its end."""
    gc.freeze()


def settle() -> None:
    """Exempt what exists now and stays: the libraries and the model's tokenizer. Call it once everything is loaded."""
    gc.collect()
    gc.freeze()
