"""Packs as a service has them: several on one machine, and one in several workers."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from bento_trtllm.bento import pinned
from bento_trtllm.checks import check
from bento_trtllm.config import Settings
from bento_trtllm.engines import together
from bento_trtllm.engines.openvino import runtime
from bento_trtllm.errors import EngineError
from bento_trtllm.llm import LLM
from bento_trtllm.metrics.prometheus import Telemetry
from pack_model import main
from tests.support.checkpoints import write_checkpoint
from tests.support.limits import LIMIT_S

pytestmark = pytest.mark.slow

NAMES = ("mine", "theirs")
ADDRESS = "127.0.0.1:9"
"""Nobody listens there."""


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("packs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signal.signal", lambda number, handler: None)
        patch.setenv("BENTOML_HOME", str(folder / "bentoml"))
        checkpoint = write_checkpoint(folder / "tiny", layers=1)
        for name in NAMES:
            assert main(["openvino", "--checkpoint", str(checkpoint), "--tag", f"{name}:1", "--precision", "f32"]) == 0
    return [folder / "bentoml/models" / name / "1" for name in NAMES]


@pytest.fixture(autouse=True)
def unpinned(packs: Sequence[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a service sets for its workers."""
    monkeypatch.setenv("BENTOML_HOME", str(packs[0].parents[2]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in (pinned.PACKS, pinned.PROOFS):
        monkeypatch.setenv(name, "{}")


def test_packs_that_fit_only_alone_are_refused_at_the_start(
    packs: Sequence[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.OpenVINORuntime, "prove", lambda *_: None)

    def have(free: int) -> None:
        for module in (runtime, together):
            monkeypatch.setattr(module, "free_memory", lambda groups: free)

    have(400_000_000)
    for packed in packs:
        check([packed], Settings())
    with pytest.raises(EngineError) as caught:
        check(packs, Settings())
    assert str(caught.value) == (
        "the models take 0.5 GB of memory together (mine 0.3, theirs 0.3), the smallest KV caches included, and this "
        "machine has 0.4 GB free: pack them with --precision int4, give a smaller max_tokens_in_paged_kv_cache, leave "
        "one out, or take a larger machine"
    )
    have(600_000_000)
    check(packs, Settings())
    have(200_000_000)
    with pytest.raises(EngineError, match=r"^mine:1: the packed model takes 0\.3 GB of memory, and 0\.0 GB for"):
        check(packs, Settings())


async def test_streams_share_the_pace_with_those_of_other_workers(packs: Sequence[Path], tmp_path: Path) -> None:
    """What the client of a model counts, in a service of two workers and in one of one."""
    workers = [LLM(packs[0], Settings(workers=2), cast(Telemetry, None)) for _ in range(2)]
    slots = [worker._slots for worker in workers]
    clients = [worker._connect(ADDRESS, 1) for worker in (*workers, LLM(packs[0], Settings(), cast(Telemetry, None)))]
    try:
        for each in slots:
            assert each
            each.open(tmp_path)
        async with workers[0].admission.slot(LIMIT_S), workers[0].admission.slot(LIMIT_S):
            # None of them has a stream of its own.
            assert [client._streams() for client in clients] == [0, 2, 0]
            async with workers[1].admission.slot(LIMIT_S):
                assert [client._streams() for client in clients] == [1, 2, 0]
        assert [client._streams() for client in clients] == [0, 0, 0]
    finally:
        for client in clients:
            await client.close()
        for each in slots:
            if each:
                each.close()
