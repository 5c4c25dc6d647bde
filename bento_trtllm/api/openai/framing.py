"""How the events of OpenAI's older endpoints are written."""

from bento_trtllm.api import sse
from bento_trtllm.api.errors import APIError
from bento_trtllm.api.response_body import ResponseBody


class BareData:
    """As chat completions and completions have it: data, and no types."""

    end = sse.DONE

    def frame(self, item: ResponseBody) -> str:
        """One event."""
        return f"data: {item.dump()}\n\n"

    def failure(self, error: APIError) -> str:
        """An event of its own, the last, without [DONE]: OpenAI's clients raise it."""
        return sse.data(error.body())
