"""docs/performance.md: what is between markers is written by the benchmark, the rest by people."""

from pathlib import Path

from benchmark.service import BenchError


def replace(file: Path, sections: dict[str, str]) -> None:
    """Put each text between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`. Raises BenchError if there is none."""
    text = file.read_text("utf-8")
    for name, section in sections.items():
        begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        before, found, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found and found_end):
            raise BenchError(f"{file} has no place for {name}")
        text = f"{before}{begin}\n\n{section}\n\n{end}{after}"
    file.write_text(text, "utf-8")
