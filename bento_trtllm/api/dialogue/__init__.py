"""A conversation to be continued, whichever endpoint it came in by: its prompt, its tools, its form, its answer."""
