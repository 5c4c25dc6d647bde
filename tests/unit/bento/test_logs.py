"""Log lines that cannot be forged."""

import io
import logging
from collections.abc import Iterator

import pytest

from bento_trtllm.api import request_id
from bento_trtllm.bento import logs
from bento_trtllm.triton.process.log import MODEL_NAME


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler of the root writes, after our configuration."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        logs.configure()
        yield stream
    finally:
        root.removeHandler(handler)
        for each in root.handlers:
            each.filters.clear()


def test_a_message_is_one_line(written: io.StringIO) -> None:
    logging.getLogger("x").warning("path=%s n=%d", "/a\n[INFO] b\r\x1b[1m\x85\u2028\u202e\ud83d é 😀 \\n", 3)
    expected = "[WARNING] path=/a\\n[INFO] b\\r\\x1b[1m\\x85\\u2028\\u202e\\ud83d é 😀 \\n n=3\n"
    assert written.getvalue() == expected


def test_lines_of_a_traceback_are_indented(written: io.StringIO) -> None:
    try:
        raise ValueError("no\n[INFO] forged \x1b[1m")
    except ValueError:
        logging.getLogger("x").exception("It failed")
    first, *others = written.getvalue().rstrip("\n").split("\n")
    assert first == "[ERROR] It failed"
    assert "    [INFO] forged \\x1b[1m" in others
    assert all(line.startswith("    ") for line in others)


def test_a_record_of_two_handlers_names_its_request_once(written: io.StringIO) -> None:
    logger = logging.getLogger("test.twice")
    other = logging.StreamHandler(written)
    logger.addHandler(other)
    logs.configure()
    token = request_id.CURRENT.set("req-1")
    try:
        logger.warning("It failed\n")
    finally:
        request_id.CURRENT.reset(token)
        logger.removeHandler(other)
    assert written.getvalue() == "It failed (request=req-1)\n[WARNING] It failed (request=req-1)\n"


def test_what_the_triton_of_one_of_several_models_writes_names_it(written: io.StringIO) -> None:
    token = MODEL_NAME.set("llama")
    try:
        logging.getLogger("x").warning("It failed")
    finally:
        MODEL_NAME.reset(token)
    assert written.getvalue() == "[WARNING] It failed (model=llama)\n"
