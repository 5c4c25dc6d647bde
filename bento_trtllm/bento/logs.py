"""What a worker writes to its log."""

import logging
import re
import textwrap
import traceback

from bento_trtllm.api import request_id
from bento_trtllm.triton.process.log import MODEL_NAME

# Control characters (C0, DEL, C1), what some programs take for line ends, marks that change the direction of text, and
# lone surrogates, which cannot be written.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def configure() -> None:
    """Show our own INFO messages, which BentoML's root level hides; keep every message to one line."""
    logging.getLogger("bento_trtllm").setLevel(logging.INFO)
    for logger in (logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)):
        for handler in logger.handlers:
            handler.addFilter(_one_line)


def escape(text: str) -> str:
    """The text with unprintable characters escaped: paths sent by clients are in the log."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _one_line(record: logging.LogRecord) -> bool:
    """Keep a message to one line, since a second could pass for another message; indent the lines of a traceback.

    A message about a request ends with the request's id, and one of the Triton of one of several models with that
    model's name. A record passes here once per handler.
    """
    about = f" (request={name})" if (name := request_id.CURRENT.get()) else ""
    about += f" (model={name})" if (name := MODEL_NAME.get()) else ""
    message = escape(record.getMessage().rstrip("\n"))
    record.msg, record.args = message if message.endswith(about) else message + about, None
    if isinstance(record.exc_info, tuple):
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        record.exc_text = textwrap.indent("\n".join(map(escape, text.split("\n"))), "    ")
        record.exc_info = None
    return True
