"""What can be checked of packs before a worker serves them, without what it takes to serve them."""

from collections.abc import Sequence
from pathlib import Path

from bento_trtllm.api.variants import check_names, names
from bento_trtllm.bento.home import home
from bento_trtllm.bento.pinned import pin, pin_proofs
from bento_trtllm.config import Settings
from bento_trtllm.engines import make_runtime
from bento_trtllm.engines.together import check_together
from bento_trtllm.errors import EngineError
from bento_trtllm.keys import audit
from bento_trtllm.manifest import tag_of
from bento_trtllm.triton.process.door import Door
from bento_trtllm.triton.process.repository import engine_config, read_parameters

PROOFS = "proofs"
"""Beside the store: what packs have shown of themselves on other machines than those that packed them."""


def check(packs: Sequence[Path], settings: Settings) -> None:
    """What can be checked for all workers before there is one; this also pins the packs.

    Raises StoreError, EngineError for settings they must not have, or a machine that is too small or computes something
    else, TritonError where grpc_port is taken, or SettingsError where the audit log cannot be written.
    """
    Door.of(settings).check()
    if settings.audit_log:
        audit.check(settings.audit_log)
    runtimes = [make_runtime(manifest) for manifest in pin(packs)]
    engines = [runtime.manifest.engine for runtime in runtimes]
    planned = []
    for packed, runtime in zip(packs, runtimes, strict=True):
        try:
            parameters = runtime.parameters(settings, read_parameters(engine_config(packed)), engines)
            runtime.check_room(parameters)
        except EngineError as error:
            if len(packs) == 1:
                raise
            raise EngineError(f"{tag_of(packed)}: {error}") from error
        planned.append((packed, runtime, parameters))
    if len(packs) > 1:
        check_names([names(packed.parent.name, packed) for packed in packs])
        check_together({packed.parent.name: (runtime, parameters) for packed, runtime, parameters in planned})
    pin_proofs({packed: runtime.prove(packed, given, home() / PROOFS) for packed, runtime, given in planned})
