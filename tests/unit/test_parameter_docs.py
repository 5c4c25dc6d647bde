"""The table of tensors in docs/openai.md is that of the code."""

import subprocess
import sys
from pathlib import Path

from bento_trtllm.triton_models.shared.parameters import PARAMETERS

ROOT = Path(__file__).parents[2]


def test_the_table_is_up_to_date() -> None:
    argv = [sys.executable, "scripts/document_parameters.py", "--check"]
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (ROOT / "docs/openai.md").read_text("utf-8")
    assert [row.tensor for row in PARAMETERS if f"\n| `{row.tensor}` |" not in text] == []
