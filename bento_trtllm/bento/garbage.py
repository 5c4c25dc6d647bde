"""Python's garbage collector. All streams of a worker pause while it runs, so it runs rarely and has little to do."""

import gc

# Python's own are 700, 10, 10: hundreds of collections a second under load. These let a few megabytes of garbage
# accumulate; measured at 64 paced streams, they take 5 ms off the 99th percentile of the first token
# (docs/performance.md).
THRESHOLDS = (50_000, 10, 10)


def leave_out() -> None:
    """Leave out what is there now, in a process that only waits: else it looks through all of it at its end."""
    gc.freeze()


def settle() -> None:
    """Exempt what exists now and stays: the libraries and the model's tokenizer. Call it once everything is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
