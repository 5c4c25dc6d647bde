"""Reads tritonserver's output: passes it on to Python's logging, and remembers why a start failed.

Triton's own lines have a level and a place, `I1122 23:54:00.123456 42 server.cc:674] "message"`. Lines without them are
part of a table, a library's message, or printed by a Python model.

TensorRT-LLM writes `[TensorRT-LLM][ERROR] message`, bypassing Triton's log, and a stack trace follows its exceptions.

Much of what Triton logs is rarely of interest, so its INFO becomes DEBUG. A model's INFO stays.
"""

import json
import logging
import re
import time
from collections import deque
from contextvars import ContextVar

from bento_trtllm.triton.wire import engine_errors
from bento_trtllm.triton_models.shared.faults import INVALID_REQUEST

MODEL_NAME: ContextVar[str] = ContextVar("model", default="")
"""The model whose Triton is supervised here, in a service with several."""
LINE = re.compile(r"([VIWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([^\s\]]+):\d+\] ?(.*)", re.DOTALL)
LEVELS = {
    "V": logging.DEBUG,
    "I": logging.DEBUG,
    "W": logging.WARNING,
    "E": logging.ERROR,
    "F": logging.CRITICAL,
}
NVIDIA = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.DEBUG,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
}
"""TensorRT-LLM's levels, getLevelName in common/logger.h (0.10.0 to 1.3.0rc3). Its INFO is verbose."""
THROWN = re.compile(r" *what\(\): +(?P<message>.*)")
"""What the C++ runtime writes about an uncaught exception."""
HARMLESS = re.compile(
    r"CudaDriverHelper has not|unable to create stream for|pinned memory pool will not|DCGM unable to start"
    r"|Failed to initialize NVML"
    r"|^Signal \(\d+\) received|Non-graceful termination detected"
)
"""What Triton logs on a machine without a GPU, and when it is told to stop."""
FAILURES = (
    re.compile(r"^failed to load '(?P<model>[^']+)' version \d+: (?:[A-Z]\w+: )?(?P<message>.*)", re.DOTALL),
    re.compile(r"^Poll failed for model directory '(?P<model>[^']+)': (?P<message>.*)", re.DOTALL),
)
ERROR = re.compile(r"^error: (?:creating server: )?(?P<message>.*)")
"""Written outside the log by Triton's main function, and by the reaper."""
TAIL_LINES = 200
RECENT_S = 5.0
"""An error may concern only one request; it explains the end of Triton only if it came shortly before."""


class TritonLog:
    """The log of one tritonserver."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.failure: str | None = None
        """The first model that could not be loaded, and its message."""
        self.port_taken = False
        self.lines = 0
        """How many lines were written so far."""
        self._starting = True
        self._errors: deque[tuple[float, str]] = deque(maxlen=TAIL_LINES)
        """When each was written, and its message."""
        self._level = logging.DEBUG

    def feed(self, line: str) -> None:
        """Take one line, without its line end."""
        self.tail.append(line)
        self.lines += 1
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
            self._note(match["message"])
        elif match := engine_errors.MARK.search(line):
            message, level = line, NVIDIA.get(match[1], logging.INFO)
            if level >= logging.ERROR:
                self._note(line)
        elif match := THROWN.match(line):
            message, level = line, logging.ERROR
            self._note(match["message"])
        elif not line or line[0] in "+|" or engine_errors.FRAME.match(line):
            message, level = line, self._level  # a table or a stack trace has the level of the line above it
        else:
            message, level = line, logging.INFO
        if HARMLESS.search(message):
            level = logging.DEBUG
        self._level = level
        if message:
            self.logger.log(level, "%s", message)

    def settle(self) -> None:
        """Triton is ready: what it wrote so far does not explain later failures."""
        self.tail.clear()
        self._errors.clear()
        self._starting = False

    def reason(self) -> str:
        """Why Triton failed or ended, in its own words: the first of its recent errors, or else its last line.

        The first, since one error causes others. Without stack traces and places in NVIDIA's source: those are in the
        log.
        """
        if self.failure:
            return self.failure
        since = 0.0 if self._starting else time.monotonic() - RECENT_S
        if errors := [message for at, message in self._errors if at >= since]:
            return engine_errors.readable(errors[0])
        return self.last()

    def last(self) -> str:
        """The last line that says anything."""
        for line in reversed(self.tail):
            if line and line[0] not in "+|" and not engine_errors.FRAME.match(line):
                return f"the last line that it wrote is: {engine_errors.readable(line)}"
        return "it wrote nothing"

    def _notice(self, message: str) -> None:
        if "already in use" in message:
            self.port_taken = True
        for failure in FAILURES:
            if self.failure is None and (match := failure.match(message)):
                message = engine_errors.readable(match["message"].partition("\n\nAt:")[0])  # the rest is in the log
                self.failure = f"model {match['model']}: {message.strip()}"
        if not HARMLESS.search(message):
            self._note(message)

    def _note(self, error: str) -> None:
        if engine_errors.read(error).code != INVALID_REQUEST:  # otherwise it is about one request
            self._errors.append((time.monotonic(), error))


def _unquote(message: str) -> str:
    """Newer Tritons write the message as a JSON string. Text printed by a model may follow it directly."""
    try:
        text, end = json.JSONDecoder().raw_decode(message)
    except ValueError:
        return message
    return f"{text}{message[end:]}" if isinstance(text, str) else message
