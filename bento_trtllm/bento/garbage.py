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


def make_once(service: object, *methods: str) -> None:
    """Have BentoML find these methods of a service made.

    It makes one for each request (1.4.40), as cycles that only the collector finds: with many clients, for a tenth of a
    second at a time.
    """
    vars(service).update({name: getattr(service, name) for name in methods})
