"""Serve Llama-class models on NVIDIA Triton with BentoML."""

VERSION = "0.1.0"
