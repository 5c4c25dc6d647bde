"""Python's garbage collector. While it runs in a worker no stream moves, so it is to have little to do, and seldom."""

import gc

# Python's own are 700, 10, 10: hundreds of collections a second under load. What is waited for
# instead is a few megabytes; measured at 64 paced streams, they take 5 ms off the 99th percentile of the first token
# (docs/performance.md).
THRESHOLDS = (50_000, 10, 10)


def leave_out() -> None:
    """Leave out what is there now, in a process that only waits: else it looks through all of it at its end."""
    gc.freeze()


def settle() -> None:
    """Leave out what is there now, which stays: the libraries and the model's tokenizer. Once all is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
