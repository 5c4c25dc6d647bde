"""Everything that bends BentoML, circus, uvicorn, prometheus_client or OpenTelemetry, a noun a file.

What each takes for granted of their insides is in tests/unit/bento: an upgrade of BentoML is a list of red canaries.
Two things stand outside, below this: metrics/prometheus.py fills a histogram of its own at once (prometheus_client's
Histogram, subclassed), and api/errors.py has StreamCut, which BentoML does not catch. Both have their canaries there.
"""
