"""What a packed engine shows of itself: that it computes on this machine what its checkpoint says (trial.py).

Needs nothing of OpenVINO, which the service does not load.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from bento_trtllm.engines.openvino.fastest import WHOLE_TOKEN
from bento_trtllm.engines.openvino.machine import machine
from bento_trtllm.errors import EngineError
from bento_trtllm.manifest import Proof
from bento_trtllm.triton_models.openvino.precisions import Precisions

TRIAL = "bento_trtllm.engines.openvino.trial"
Measure = Callable[[Path, Precisions], float]
"""The largest error of an engine's log probabilities, computed so; raises EngineError where it cannot run."""
EXACT = Precisions("f32", "f32", 0)
EXACT_BOUND = 0.01
"""Measured: up to 4e-5. Sums in another order differ by little, whatever the weights' precision."""
BOUNDS = {"f32": 4.0, "f16": 4.0, "bf16": 4.0, "int8": 6.0, "int4": 6.0}
"""For log probabilities as served, by the type of the weights: those of a random token are some -10 to -20, and bf16, 8
bits a value in the KV cache and, with integers, 8 bits an activation move them. Measured: the demo's by up to 0.2 and
0.4, those of 20 layers of random weights by up to 0.7 and 0.8. A wrong kernel gives anything."""


def prove(engine: Path, precision: str, served: Precisions, measure: Measure) -> Proof:
    """What an engine shows of itself on this machine: in f32, and as it is served.

    Raises EngineError, in one sentence, for what is over a bound.
    """
    exact = measure(engine, EXACT)
    check_error(exact, precision, EXACT)
    error = exact if served == EXACT else measure(engine, served)
    check_error(error, precision, served)
    return Proof(machine=machine(), computed=describe(served), log_prob_error=error, exact_log_prob_error=exact)


def check_error(error: float, precision: str, precisions: Precisions) -> None:
    """Raise EngineError for an error that is over the bound."""
    bound = EXACT_BOUND if precisions == EXACT else BOUNDS[precision]
    if error > bound:
        raise EngineError(
            f"the packed engine computes something other than its checkpoint says on this machine (log probabilities "
            f"are off by up to {error:.2g} {describe(precisions)}, and the bound is {bound:g})"
        )


def describe(precisions: Precisions) -> str:
    """Which types it computes in, in a few words."""
    if precisions == EXACT:
        return "in f32"
    kind, group = precisions.inference or "what the CPU is fastest in", precisions.quantization_group
    if group is None:
        rounded = ""
    elif group >= WHOLE_TOKEN:
        rounded = ", all activations of a token in a group"
    else:
        rounded = f", activations in groups of {group}" if group else ", activations as they are"
    return f"in {kind} with a KV cache in {precisions.kv_cache}{rounded}"


def measure_apart(engine: Path, precisions: Precisions) -> float:
    """As `measure` of trial.py, in a process of its own. Raises EngineError."""
    argv = [sys.executable, "-m", TRIAL, str(engine), json.dumps(asdict(precisions))]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(argv, cwd=root, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return float(done.stdout.split()[-1])
    if done.returncode == 2:
        raise EngineError(done.stderr.strip())
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise EngineError(f"the packed engine cannot be tried on this machine: {last}")
