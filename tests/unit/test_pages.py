"""The chat page, as it is sent."""

import hashlib
import re

from bento_trtllm.api.pages import LIBRARY, STATIC, chat_page


def test_the_library_is_what_npm_has() -> None:
    """Nobody has changed it by hand, and the licences of all that is in it are beside it."""
    origin, _, code = (STATIC / "markdown-it.js").read_text("utf-8").partition("\n")
    assert re.search(r"markdown-it-(\d+\.\d+\.\d+)\.tgz \(sha512-", origin)
    assert f"sha256 of what follows: {hashlib.sha256(code.encode()).hexdigest()} " in origin
    licences = (STATIC / "markdown-it.licenses.txt").read_text("utf-8")
    for name in ("markdown-it", "linkify-it", "mdurl", "entities", "uc.micro", "punycode.js"):
        assert re.search(rf"^{re.escape(name)} \d", licences, re.MULTILINE), name


async def test_the_page_is_whole_and_runs_its_own_scripts_only() -> None:
    response = await chat_page()
    page = bytes(response.body).decode()
    assert LIBRARY not in page
    assert "<script src" not in page
    policy = response.headers["content-security-policy"]
    assert len(re.findall("'sha256-", policy)) == page.count("<script>") == 2
    assert "script-src 'unsafe-inline'" not in policy
