"""Trains the demo checkpoint: what scripts/train_demo runs, with torch, transformers and tokenizers."""
