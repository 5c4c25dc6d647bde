"""Tries clients that people use on a running service, for the table in docs/openai.md."""
