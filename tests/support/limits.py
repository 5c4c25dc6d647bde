"""How long tests wait, and what a service that they break waits for."""

LIMIT_S = 60.0
"""For what comes, or is noticed, at once: only what never happens passes it."""
STALL_S, ERRORS = 3, 3
"""Of a service that tests break: a step of so long is a hang, and so many errors in a row are the engine's end."""
