"""The core: token ids in, text out.

It is given a source of tokens and an observer, and raises errors of its own. It knows nothing of HTTP, Triton or
Prometheus: api/errors.py defines what an error means to a client.
"""
