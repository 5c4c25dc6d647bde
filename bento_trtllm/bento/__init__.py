"""Everything that patches BentoML, circus, uvicorn, prometheus_client or OpenTelemetry.

The internals that each patch relies on are checked by canaries in tests/unit/bento: after an upgrade of BentoML, the
failing canaries say what to look at. Two more patches are outside this folder, in layers below: metrics/prometheus.py
subclasses prometheus_client's Histogram to fill it at once, and api/errors.py has StreamCut, which BentoML does not
catch. Both have canaries there, too.
"""
