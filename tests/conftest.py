"""How the suite is shared out where `scripts/test` runs it in two processes.

Tests that start services take turns in one process: what they wait for depends on the machine's two cores. The rest
goes file by file.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SERVICES = HERE / "e2e"
# Services of its own, which mostly wait: it goes along with the unit tests.
APART = SERVICES / "test_lifecycle.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        together = SERVICES in item.path.parents and item.path != APART
        group = SERVICES.name if together else str(item.path.relative_to(HERE))
        item.add_marker(pytest.mark.xdist_group(group))
