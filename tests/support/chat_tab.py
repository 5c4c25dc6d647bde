"""A tab of headless Chromium with the chat page."""

import json
import shutil

import pytest
from playwright.sync_api import BrowserContext, Route, expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP evil.example 127.0.0.1",
]
NEEDS_CHROMIUM = pytest.mark.skipif(
    not CHROMIUM, reason="Chromium is missing: as root, scripts/test installs it with apt-get; else install it yourself"
)
# For each thing that is waited for, on a machine with much else to do; its coming ends the wait.
LIMIT_MS = 30_000
expect.set_options(timeout=LIMIT_MS)


def plain(text: str) -> str:
    """A text as it is compared: white space between blocks is the page's own."""
    return " ".join(text.split())


class Tab:
    """A page, with all that it asked for and complained about."""

    def __init__(self, context: BrowserContext, origin: str, path: str = "/chat") -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(LIMIT_MS)
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        # Watched, not routed: a routed request has its answer at once, not in pieces.
        self.page.on("request", lambda request: self._note(request.url))
        self._origin = origin
        self.page.goto(f"{origin}{path}")

    def _note(self, url: str) -> None:
        if not url.startswith((self._origin, "data:")):
            self.foreign.append(url)

    def ask(self, question: str) -> None:
        self.page.get_by_label("Your message").fill(question)
        self.page.keyboard.press("Enter")

    def answers(self) -> list[str]:
        """The texts of the answers, once none is being written."""
        expect(self.page.locator("article.streaming")).to_have_count(0)
        return [plain(text) for text in self.page.locator("article.assistant .text").all_text_contents()]

    def answer(self, text: str, pieces: int = 1) -> None:
        """Answer every question with this text."""
        size = -(-len(text) // pieces)
        deltas = [{"delta": {"content": text[i : i + size]}} for i in range(0, len(text), size)]
        events = [{"choices": [choice]} for choice in (*deltas, {"delta": {}, "finish_reason": "stop"})]
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"

        def fulfill(route: Route) -> None:
            route.fulfill(body=body, content_type="text/event-stream")

        self.page.route("**/v1/chat/completions", fulfill)
