"""Anthropic's Messages API on the same streams of text."""
