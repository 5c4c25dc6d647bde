"""The chat page of a service with several models."""

from playwright.sync_api import Browser, expect

from tests.support.chat_tab import NEEDS_CHROMIUM, Tab
from tests.support.serving import Service

pytestmark = NEEDS_CHROMIUM


def test_one_of_several_models_is_chosen(browser: Browser, service: Service) -> None:
    """And kept by a reload. Of one there is no choice."""
    context = browser.new_context()
    tab = Tab(context, service.url)
    tab.page.get_by_role("button", name="Settings").click()
    expect(tab.page.get_by_label("System prompt")).to_be_visible()
    expect(tab.page.locator("#models")).to_be_hidden()
    tab.page.route("**/v1/models", lambda route: route.fulfill(json={"data": [{"id": "one"}, {"id": "two"}]}))
    tab.answer("I see.")
    tab.page.reload()
    tab.page.get_by_role("button", name="Settings").click()
    tab.page.locator("#models").select_option("two")
    tab.page.reload()
    expect(tab.page.get_by_role("heading", name="two")).to_be_visible()
    with tab.page.expect_request("**/v1/chat/completions") as asked:
        tab.ask("Who are you?")
    assert (asked.value.post_data_json or {})["model"] == "two"
    assert tab.answers() == ["I see."]
    context.close()
