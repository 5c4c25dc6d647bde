"""What a worker writes to its log."""

import logging

from pydantic import ValidationError


def configure() -> None:
    """Show our own INFO, which BentoML's root level hides, and a refused request as one line."""
    logging.getLogger("bento_trtllm").setLevel(logging.INFO)
    # The module whose log_exception the server calls (_bentoml_impl/server/app.py, 1.4.39).
    logging.getLogger("bentoml._internal.server.http_app").addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    """A request that does not fit is no exception of the server's: say what was wrong, without a traceback."""
    if isinstance(record.exc_info, tuple) and isinstance(error := record.exc_info[1], ValidationError):
        fields = ", ".join(".".join(map(str, item["loc"])) or item["msg"] for item in error.errors())
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.args, record.exc_info = "Refused a request: wrong %s", (fields,), None
    return True
