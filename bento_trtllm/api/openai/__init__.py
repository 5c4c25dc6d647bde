"""OpenAI's HTTP API on the same streams of text as `generate`."""
