"""The tables of docs/gpu.md against the tables of the code. A failure shows the rows that belong there."""

from itertools import groupby
from pathlib import Path

from bento_trtllm.engines.tensorrt.fit import BFLOAT16_CAPABILITY, HARDWARE
from bento_trtllm.engines.tensorrt.releases import DEFAULT, RELEASES, Release

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "gpu.md").read_text("utf-8")
NEWEST = {(9, 0): "Hopper", (10, 0): "B200", (12, 1): "Blackwell"}
OLDEST = {(7, 0): "Volta", (7, 5): "Turing", (8, 0): "Ampere"}
COLUMNS = {
    "Turing 7.5 (T4)": (7, 5),
    "Ampere 8.0, 8.6 (A100, A10G)": (8, 6),
    "Ada 8.9 (L4, L40S)": (8, 9),
    "Hopper 9.0 (H100, H200)": (9, 0),
    "Blackwell 10.0 (B200)": (10, 0),
    "Blackwell 12.0 (RTX 5090)": (12, 0),
}


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def describe(release: Release) -> tuple[str, ...]:
    version = release.version
    read = " and ".join(version.read)
    return (
        release.tensorrt_llm,
        release.python,
        release.cuda,
        release.driver,
        f"{OLDEST[version.oldest_capability]} to {NEWEST[release.newest_capability]}",
        read if len(version.read) == 1 else f"between {read}",
    )


def releases_that_run(quantization: str, capability: tuple[int, int]) -> str:
    known = list(RELEASES.values())
    fitting = [
        release
        for release in known
        if release.version.oldest_capability <= capability <= release.newest_capability
        and HARDWARE[quantization].runs_on(capability)
        and (release.version.nvfp4 or quantization != "nvfp4")
    ]
    if not fitting:
        return "—"
    first, last = known.index(fitting[0]), known.index(fitting[-1])
    assert fitting == known[first : last + 1]
    return f"{fitting[0].tag} to {fitting[-1].tag}"


def test_releases() -> None:
    alike = [(",".join(r.tag for r in group), facts) for facts, group in groupby(RELEASES.values(), describe)]
    rows = [row(tags.replace(",", ", "), *facts) for tags, facts in alike]
    assert "\n".join(rows) in PAGE, "\n".join(rows)
    assert f"The default is {DEFAULT}" in PAGE
    assert f"of another release than {DEFAULT} wants" in (DOCS / "deploy.md").read_text("utf-8")


def test_what_works_where() -> None:
    head = row("`--quantization`", *COLUMNS)
    rows = [
        row(f"`{name}`", *(releases_that_run(name, capability) for capability in COLUMNS.values())) for name in HARDWARE
    ]
    wanted = "\n".join([head, "|---" * (len(COLUMNS) + 1) + "|", *rows])
    assert wanted in PAGE, wanted
    # Said below the table.
    assert BFLOAT16_CAPABILITY == (8, 0)
