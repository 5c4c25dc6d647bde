"""How long tests wait."""

LIMIT_S = 60.0
"""For what comes, or is noticed, at once: only what never happens passes it."""
