"""Chromium, once for all tests of a module."""

import os
import tempfile
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.chat_tab import CHROMIUM, FLAGS, Tab
from tests.support.serving import Service


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the session: as long as Playwright is open its loop runs, and no test can run one of its own."""
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as home:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home}
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser, service: Service) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1000, "height": 720})
    tab = Tab(context, service.url)
    yield tab
    assert tab.foreign == []
    assert tab.complaints == []
    context.close()
