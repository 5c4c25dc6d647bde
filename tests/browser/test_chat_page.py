"""The chat page in a real browser: headless Chromium, without a network but the service."""

import os
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.chat_tab import NEEDS_CHROMIUM, Tab, plain
from tests.support.demo import ANSWERS
from tests.support.serving import ROOT, Service, serve
from tests.support.tiny import until

EMOJI = "Show me some emoji"

pytestmark = NEEDS_CHROMIUM


def test_the_page_of_the_api_calls_no_other_host(browser: Browser, service: Service) -> None:
    """Swagger UI, its styles, its pictures, and a request that it sends."""
    context = browser.new_context()
    tab = Tab(context, service.url, "/")
    page = tab.page
    expect(page.locator(".opblock")).not_to_have_count(0)
    page.locator("#operations-OpenAI-list_models_v1_models_get, .opblock", has_text="/v1/models").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")
    page.wait_for_load_state("networkidle")
    assert tab.foreign == []
    assert tab.complaints == []
    context.close()


ATTACK = """async url => {
    const body = JSON.stringify({prompt: "hi", max_tokens: 2})
    const kinds = [undefined, "text/plain", "application/json"]
    const sent = kinds.flatMap(type => ["no-cors", "cors"].map(mode => ({
        method: "POST", mode, body: new Blob([body], {type: type ?? ""}), headers: type ? {"content-type": type} : {},
    })))
    const answers = []
    for (const options of [...sent, {mode: "no-cors"}, {mode: "cors"}]) {
        try {
            const response = await fetch(url, options)
            answers.push(response.type === "opaque" ? "opaque" : response.status)
        } catch (error) {
            answers.push("failed")
        }
    }
    return answers
}"""


def test_a_page_of_another_site_drives_nothing(browser: Browser, service: Service) -> None:
    """Neither by the service's own address, nor by a name of the site's that leads to it (DNS rebinding)."""
    port = int(service.url.rpartition(":")[2])

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!DOCTYPE html><title>evil</title>")

        def log_message(self, *_: object) -> None:
            pass

    def asked() -> str:
        """How many requests were answered, or put in line."""
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        return "\n".join(line for line in lines if line.startswith("trtllm_requests_total{"))

    before = asked()
    site = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"http://evil.example:{site.server_port}/")
        answers = page.evaluate(ATTACK, f"{service.url}/generate")
        assert set(answers) <= {"opaque", "failed"}
        # As if the name had led to the site when the page was loaded, and to this machine from then on.
        page.goto(f"http://evil.example:{port}/")
        expect(page.locator("body")).to_contain_text("host_not_allowed")
        answers = page.evaluate(ATTACK, f"http://evil.example:{port}/generate")
        assert set(answers) <= {403, "opaque", "failed"}
        assert 403 in answers
    finally:
        context.close()
        site.shutdown()
        site.server_close()
    assert asked() == before


def test_answers_in_several_turns_and_keeps_them_over_a_reload(tab: Tab) -> None:
    page = tab.page
    expect(page.get_by_role("heading")).to_have_text("demo-llama")
    expect(page.get_by_label("Your message")).to_be_focused()
    tab.ask(EMOJI)
    assert tab.answers() == [plain(ANSWERS[EMOJI])]
    note = page.locator("article.assistant footer .note")
    expect(note).to_have_text(re.compile(r"^first token \d+ ms · [\d.]+ tokens/s · \d+ tokens$"))
    with page.expect_request("**/v1/chat/completions") as sent:
        page.get_by_label("Your message").fill("And in Japanese?")
        page.get_by_role("button", name="Send").click()
    body: Any = sent.value.post_data_json
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert "temperature" not in body  # the model's own
    assert body["messages"][1]["content"] == ANSWERS[EMOJI]
    before = tab.answers()
    expect(page.get_by_label("Your message")).to_be_focused()
    page.reload()
    assert tab.answers() == before
    page.get_by_role("button", name="New chat").click()
    assert tab.answers() == []
    page.reload()
    assert tab.answers() == []


def test_a_reload_loses_nothing_that_was_written(tab: Tab) -> None:
    """Neither a half answer nor half a question."""
    page = tab.page
    page.route("**/v1/chat/completions", lambda _: None)  # never answered
    tab.ask("Tell me a long story")
    expect(page.locator("article.streaming")).to_have_count(1)
    page.get_by_label("Your message").fill("And then")
    page.reload()
    expect(page.locator("article.user .text")).to_have_text("Tell me a long story")
    expect(page.locator("article.assistant .error")).to_contain_text("before the end of the answer")
    expect(page.get_by_label("Your message")).to_have_value("And then")
    page.unroute_all(behavior="ignoreErrors")
    page.get_by_role("button", name="Try again").click()
    assert tab.answers() == [plain(ANSWERS["Tell me a long story"])]


def test_a_narrow_screen_has_all_of_it(tab: Tab) -> None:
    page = tab.page
    page.set_viewport_size({"width": 320, "height": 500})
    page.get_by_role("button", name="Settings").click()
    tab.ask(EMOJI)
    tab.answers()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    for name in ("Settings", "New chat", "Send"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 320


def test_text_only_grows(tab: Tab) -> None:
    """That it comes in pieces is seen in test_stop_cancels_the_engine, whose engine waits for whoever looks."""
    seen: list[int] = []

    def note(length: int) -> None:
        seen.append(length)

    tab.page.expose_function("seen", note)
    tab.page.evaluate(
        """new MutationObserver(() => seen(document.querySelector("article.assistant .text")?.textContent.length ?? 0))
        .observe(document.querySelector("#log"), { childList: true, subtree: true })"""
    )
    tab.ask("Tell me a long story")
    assert tab.answers() == [plain(ANSWERS["Tell me a long story"])]
    growing = [length for length in seen if length]
    assert growing and growing == sorted(growing)


def test_settings_are_sent_and_kept(tab: Tab) -> None:
    page = tab.page
    toggle = page.get_by_role("button", name="Settings")
    expect(toggle).to_have_attribute("aria-expanded", "false")
    toggle.click()
    expect(page.get_by_label("System prompt")).to_be_focused()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("1.5")
    page.get_by_label("Longest answer").fill("7")
    page.get_by_label("API key").fill("secret")
    page.reload()
    with page.expect_request("**/v1/chat/completions") as sent:
        tab.ask("Hi")
    body: Any = sent.value.post_data_json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["max_tokens"], body["stream"]) == (1.5, 7, True)
    assert sent.value.headers["authorization"] == "Bearer secret"
    tab.answers()
    note = page.locator("article.assistant footer .note")
    expect(note).to_contain_text(re.compile(r"\d+ tokens"))


def test_copies_an_answer(tab: Tab, service: Service) -> None:
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
    tab.ask(EMOJI)
    tab.answers()
    tab.page.get_by_role("button", name="Copy this answer").click()
    expect(tab.page.get_by_role("button", name="Copy this answer")).to_have_text("Copied")
    assert tab.page.evaluate("navigator.clipboard.readText()") == ANSWERS[EMOJI]


def test_errors_are_said_and_can_be_tried_again(tab: Tab) -> None:
    page = tab.page
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Longest answer").fill("999999")
    tab.ask(EMOJI)
    expect(page.get_by_role("alert")).to_contain_text("4096")
    page.get_by_label("Longest answer").fill("")
    page.get_by_role("button", name="Try again").click()
    assert tab.answers() == [plain(ANSWERS[EMOJI])]
    expect(page.locator("article.user")).to_have_count(1)
    page.route("**/v1/chat/completions", lambda route: route.abort())
    tab.ask("Hi")
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.")
    tab.complaints.clear()  # Chromium logs each failed request


def test_keyboard_and_screen_reader(tab: Tab) -> None:
    page = tab.page
    prompt = page.get_by_label("Your message")
    prompt.press_sequentially("a")
    prompt.press("Shift+Enter")
    prompt.press_sequentially("b")
    expect(prompt).to_have_value("a\nb")
    tab.ask(EMOJI)
    tab.answers()
    expect(page.get_by_role("status")).to_have_text(ANSWERS[EMOJI])
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, textarea")]
        .filter(e => !(e.textContent.trim() || e.labels?.length || e.ariaLabel)).map(e => e.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(browser: Browser, service: Service, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    tab = Tab(context, service.url)
    tab.ask(EMOJI)
    tab.answers()
    for selector in ("article.user .text", "article.assistant .text", "footer .note", "h1", "#send", "#fresh"):
        assert contrast(tab.page, selector) >= 4.5, selector
    context.close()


def contrast(page: Page, selector: str) -> float:
    """WCAG's contrast ratio of an element's text and what is behind it."""
    page.fill("#prompt", "x")  # an empty prompt disables the button
    colours = page.evaluate(
        """selector => {
            let node = document.querySelector(selector)
            const text = getComputedStyle(node).color
            while (node && /rgba\\(.*, 0\\)/.test(getComputedStyle(node).backgroundColor)) node = node.parentElement
            return [text, getComputedStyle(node ?? document.body).backgroundColor]
        }""",
        selector,
    )

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def test_stop_cancels_the_engine(browser: Browser, home: Path, slow_model: str, tmp_path: Path) -> None:
    options = ("--arg", f"model={slow_model}", "--arg", "max_running_requests=1", "--arg", "max_waiting_requests=0")
    with serve(home, tmp_path / "log.txt", *options) as service:
        service.wait_ready()
        model = httpx.get(f"{service.url}/v1/models").json()["data"][0]["id"]
        context = browser.new_context()
        tab = Tab(context, service.url)
        one = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        stops: list[Callable[[], None]] = [
            lambda: tab.page.get_by_role("button", name="Stop").click(),
            lambda: tab.page.keyboard.press("Escape"),
        ]
        for stop in stops:
            tab.ask("Go on and on")
            text = tab.page.locator("article.streaming .text")
            expect(text).not_to_be_empty()
            begun = text.text_content() or ""
            expect(text).not_to_have_text(begun)
            assert httpx.post(f"{service.url}/v1/chat/completions", json=one).status_code == 429
            stop()
            tab.answers()
            expect(tab.page.locator("footer .note").last).to_contain_text("stopped")
            expect(tab.page.get_by_label("Your message")).to_be_focused()
            until(lambda: service.active() == 0)
            assert httpx.post(f"{service.url}/v1/chat/completions", json=one, timeout=60).status_code == 200
        context.close()


def test_screenshot(browser: Browser, service: Service) -> None:
    """With WRITE_SCREENSHOT=1 it writes docs/chat.png anew."""
    context = browser.new_context(viewport={"width": 960, "height": 640}, color_scheme="light")
    tab = Tab(context, service.url)
    tab.ask(EMOJI)
    tab.answers()
    tab.ask("What can you do?")
    tab.answers()
    picture = tab.page.screenshot()
    context.close()
    assert len(picture) < 200_000
    if os.environ.get("WRITE_SCREENSHOT"):
        (ROOT / "docs").mkdir(exist_ok=True)
        (ROOT / "docs" / "chat.png").write_bytes(picture)
