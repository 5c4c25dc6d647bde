"""Where BentoML keeps its files, without importing BentoML, which takes most of a second."""

import os
from pathlib import Path


def home() -> Path:
    """BentoML's home directory, which may not exist yet: $BENTOML_HOME, or ~/bentoml."""
    return Path(os.path.expandvars(os.environ.get("BENTOML_HOME", "~/bentoml"))).expanduser().resolve()


def models() -> Path:
    """Where BentoML keeps models, NAME/VERSION; it may not exist yet."""
    return (home() / "models").resolve()
