"""Import it before OpenVINO, which then leaves out what no engine here needs.

`openvino` imports its converter of other frameworks' models where it can, and goes on without one where it cannot
(openvino/__init__.py, 2026.4): that and what it brings are 0.14 of the 0.33 s of CPU time that its imports take. The
converter also tells Google Analytics of each import, under a number that it keeps in ~/intel.
"""

from __future__ import annotations

import sys

CONVERTER = "openvino.tools.ovc"

sys.modules.setdefault(CONVERTER, None)  # type: ignore[arg-type]  # which is how Python writes down that it cannot be imported
