"""Writes the table of tensors in docs/openai.md anew; with --check, says whether it is as it should be.

The table is bento_trtllm/triton_models/shared/parameters.py.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bento_trtllm.triton_models.shared.parameters import OWN, PARAMETERS, Parameter  # noqa: E402

FILE = ROOT / "docs" / "openai.md"
BEGIN = "<!-- By scripts/document_parameters.py, from triton_models/shared/parameters.py: -->\n"
END = "<!-- Here it ends. -->\n"
HEAD = "| tensor | type | shape | fields of the API | engines | TensorRT-LLM |\n|---|---|---|---|---|---|\n"


def row(parameter: Parameter) -> str:
    """One row of the table in Markdown."""
    shape = "scalar" if parameter.scalar else str(["n" if size < 0 else size for size in parameter.dims])
    fields = ", ".join(f"`{field}`" for field in parameter.api)
    since = "no: this service's own" if parameter.since == OWN else f"since {parameter.since}"
    if parameter.before_1:
        since += f"; before 1.0 `{parameter.before_1}`"
    cells = (
        f"`{parameter.tensor}`",
        parameter.dtype,
        shape.replace("'", ""),
        fields or ("the service's own" if parameter.field else ""),
        ", ".join(parameter.engines) or "all",
        since,
    )
    return f"| {' | '.join(cells)} |\n".replace("|  |", "| |")


def main() -> None:
    """Replace what is between the two marks."""
    text = FILE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    written = f"{before}{BEGIN}{HEAD}{''.join(map(row, PARAMETERS))}{END}{after}"
    if "--check" in sys.argv[1:]:
        sys.exit(None if written == text else f"{FILE} is out of date: run python scripts/document_parameters.py")
    FILE.write_text(written, "utf-8")


if __name__ == "__main__":
    main()
