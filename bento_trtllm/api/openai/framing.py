"""How the events of OpenAI's older endpoints are written."""

from typing import Any

from bento_trtllm.api import sse
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.response_body import ResponseBody


def late_error(status: int, error: dict[str, Any]) -> str:
    """An error of a stream whose response began before it; OpenAI's clients look at the data, and not at a type."""
    return sse.data({"error": error})


class BareData:
    """As chat completions and completions have it: data, and no types."""

    end = sse.DONE

    def frame(self, item: ResponseBody) -> str:
        """One event."""
        return f"data: {item.dump()}\n\n"

    def failure(self, error: APIError) -> str:
        """An event of its own, the last, without [DONE]: OpenAI's clients raise it."""
        return sse.data(error.body())
