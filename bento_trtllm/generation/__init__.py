"""The core: token ids in, text out.

It is given a source of tokens and an observer, and raises errors of its own kinds. It knows neither HTTP nor Triton
nor Prometheus: what an error means to a client is said in api/errors.py.
"""
