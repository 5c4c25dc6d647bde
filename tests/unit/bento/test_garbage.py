"""What requests leave for the garbage collector."""

import gc
from typing import Any

import bentoml

from bento_trtllm.bento.garbage import make_once


@bentoml.service
class Echo:
    """A service of BentoML's."""

    @bentoml.api  # type: ignore[untyped-decorator]
    def say(self, text: str) -> str:
        return text


def test_requests_leave_none_once_the_method_is_made() -> None:
    """The first of them is the canary: if BentoML leaves none, make_once may go."""
    service = Echo.inner()  # type: ignore[attr-defined]
    gc.collect(0)
    gc.disable()
    try:
        assert _call(service) == "hi" and gc.collect(0) > 0, "BentoML keeps its methods: look at bento/garbage.py"
        make_once(service, "say")
        assert _call(service) == "hi" and gc.collect(0) == 0
    finally:
        gc.enable()


def _call(service: Any) -> object:
    """As BentoML's application does it (tests/unit/bento/test_canaries.py, test_methods)."""
    return service.say.local("hi")
