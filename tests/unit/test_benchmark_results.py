"""Where the benchmark's figures go: each part into its place, what was not measured stays."""

import json
from pathlib import Path

from benchmark.document import replace
from benchmark.main import DOCS, RESULTS
from benchmark.report import Options, Report, merged
from benchmark.stopping import Stop
from benchmark.suite import PARTS

OPTIONS = Options("openvino", ["stops"], [], [1], 500, 5, 1, 0.0, 1, None)


def test_each_part_has_its_place_in_the_document() -> None:
    text = (DOCS / "performance.md").read_text("utf-8")
    for part in PARTS:
        assert text.count(f"<!-- bench:{part} -->") == text.count(f"<!-- /bench:{part} -->") == 1


def test_parts_that_were_not_measured_stay(tmp_path: Path) -> None:
    report = Report(OPTIONS, stops=[Stop(0.5), Stop(1.5), Stop(0.7)])
    file = tmp_path / "page.md"
    file.write_text("<!-- bench:idle -->\n\nold\n\n<!-- /bench:idle -->\n<!-- bench:stops --><!-- /bench:stops -->")
    replace(file, report.markdown())
    text = file.read_text("utf-8")
    assert "old" in text and "| 3 | 0.70 | 1.50 |" in text

    old = {"idle": [1], "stops": [{"took_s": 9.0}], "runs": {"idle": {"when": "then"}}, "notes": {"idle": "so"}}
    assert "when" not in merged(old, report.as_json())
    found = merged(old, report.as_json())
    assert found["idle"] == [1] and [stop["took_s"] for stop in found["stops"]] == [0.5, 1.5, 0.7]
    assert found["runs"]["idle"] == {"when": "then"} and found["runs"]["stops"]["options"]["parts"] == ["stops"]
    assert found["notes"]["idle"] == "so"


def test_the_results_that_there_are_can_be_added_to() -> None:
    old = json.loads((RESULTS / "performance.json").read_text("utf-8"))
    assert merged(old, Report(OPTIONS).as_json()) == old  # nothing was measured
