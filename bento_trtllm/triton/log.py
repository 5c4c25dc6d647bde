"""Reads what tritonserver writes: passes it on to Python's logging, and remembers why a start failed.

Triton's own lines have a level and a place, `I1122 23:54:00.123456 42 server.cc:674] "message"`. What has
none is the continuation of a table, a complaint of a library, or a print of a Python model.

Triton tells much that is of interest only when one looks for it, so its INFO becomes DEBUG. A model's INFO
stays.
"""

import json
import logging
import re
import time
from collections import deque

LINE = re.compile(r"([VIWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([^\s\]]+):\d+\] ?(.*)", re.DOTALL)
LEVELS = {
    "V": logging.DEBUG,
    "I": logging.DEBUG,
    "W": logging.WARNING,
    "E": logging.ERROR,
    "F": logging.CRITICAL,
}
HARMLESS = re.compile(
    r"CudaDriverHelper has not|unable to create stream for|pinned memory pool will not|DCGM unable to start"
    r"|Failed to initialize NVML"
    r"|^Signal \(\d+\) received|Non-graceful termination detected"
)
"""What Triton says on a machine without a GPU, and when it is told to stop."""
FAILURES = (
    re.compile(r"^failed to load '(?P<model>[^']+)' version \d+: (?:[A-Z]\w+: )?(?P<message>.*)", re.DOTALL),
    re.compile(r"^Poll failed for model directory '(?P<model>[^']+)': (?P<message>.*)", re.DOTALL),
)
ERROR = re.compile(r"^error: (?:creating server: )?(?P<message>.*)")
"""Written outside the log by Triton's main function, and by the reaper."""
TAIL_LINES = 200
RECENT_S = 5.0
"""An error may be about one request; only shortly after it does an end have to do with it."""


class TritonLog:
    """The log of one tritonserver."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.failure: str | None = None
        """The first model that could not be loaded, with its own message."""
        self.port_taken = False
        self._starting = True
        self._error = ""
        self._error_at = 0.0
        self._level = logging.DEBUG

    def feed(self, line: str) -> None:
        """Take one line, without its end."""
        self.tail.append(line)
        if match := LINE.match(line):
            letter, place, message = match.groups()
            message = _unquote(message)
            level = LEVELS[letter]
            if letter == "I" and place.endswith(".py"):
                level = logging.INFO  # the model's own logger
            if level >= logging.ERROR:
                self._notice(message)
        elif line.startswith("[libprotobuf ERROR"):
            message, level = line, logging.ERROR
        elif match := ERROR.match(line):
            message, level = line, logging.ERROR
            self._error, self._error_at = match["message"], time.monotonic()
        elif not line or line[0] in "+|":
            message, level = line, self._level  # a table goes with the line above it
        else:
            message, level = line, logging.INFO
        if HARMLESS.search(message):
            level = logging.DEBUG
        self._level = level
        if message:
            self.logger.log(level, "%s", message)

    def settle(self) -> None:
        """Triton is ready: what it wrote so far explains nothing of what comes."""
        self.tail.clear()
        self._starting = False

    def reason(self) -> str:
        """Why Triton fails or ended, in its own words: a recent error where it wrote one, else its last line."""
        if self.failure:
            return self.failure
        if self._error and (self._starting or time.monotonic() - self._error_at < RECENT_S):
            return self._error
        for line in reversed(self.tail):
            if line and line[0] not in "+|":
                return f"the last that it wrote is: {line}"
        return "it wrote nothing"

    def _notice(self, message: str) -> None:
        if "already in use" in message:
            self.port_taken = True
        for failure in FAILURES:
            if self.failure is None and (match := failure.match(message)):
                message = match["message"].partition("\n\nAt:")[0]  # what follows is in the log
                self.failure = f"model {match['model']}: {message.strip()}"
        if not HARMLESS.search(message):
            self._error, self._error_at = message, time.monotonic()


def _unquote(message: str) -> str:
    """Newer Tritons write the message as a JSON string. What a model prints may cling to its end."""
    try:
        text, end = json.JSONDecoder().raw_decode(message)
    except ValueError:
        return message
    return f"{text}{message[end:]}" if isinstance(text, str) else message
