"""Markdown of a model, shown by the chat page: its marks work, and nothing in it does anything."""

import pytest
from playwright.sync_api import expect

from tests.support.chat_tab import NEEDS_CHROMIUM, Tab

pytestmark = NEEDS_CHROMIUM

MARKDOWN = """# A heading

A **bold** word, *another*, `a<b`
and a second line with https://example.com/page

1. one
   - inner
2. two

| a | b |
|---|--:|
| `1` | 2 |

> said

```html
<b>&amp;</b>
```

[a link](https://example.com/?a=1&b=2 "its title") and ![a picture](https://example.com/spy.png)

[later]

[later]: https://example.com/later
"""
# After OWASP's cheat sheet, markdown-it's and DOMPurify's own tests, and what chat pages were attacked with.
ATTACKS = (
    '<script>document.title = "attacked"</script>',
    "<img src=x onerror='document.title = \"attacked\"'>",
    "<svg/onload=document.title='attacked'>",
    '<iframe srcdoc="<script>parent.document.title=1</script>"></iframe>',
    '<a href="javascript:document.title=1">x</a>',
    "<style>*{display:none}</style><base href=//evil.example/><form action=//evil.example/><input></form>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=document.title=1&gt;'>",
    "[x](javascript:document.title=1)",
    "[x](JaVaScRiPt&colon;document.title=1)",
    "[x](java\tscript:document.title=1) [x](\x01javascript:document.title=1)",
    "[x](&#x6A&#x61&#x76&#x61&#x73&#x63&#x72&#x69&#x70&#x74&#x3A;document.title=1)",
    "[x](vbscript:x) [x](file:///etc/passwd) [x](data:text/html;base64,PHNjcmlwdD4=) [x](blob:x) [x](about:blank)",
    "[x](/v1/models) [x](//evil.example/) [x](?x) [x](#x)",
    "<javascript:document.title=1>",
    "![x](javascript:document.title=1) ![x](https://evil.example/?secret)",
    '![x"onerror="document.title=1](https://evil.example/x)',
    '[x](https://evil.example/"onmouseover="document.title=1)',
    "[x](https://evil.example/ '\"onmouseover=\"document.title=1')",
    "[x][r]\n\n[r]: javascript:document.title=1\n[r2]: https://evil.example 'x' onclick=document.title=1",
    '```"onclick="document.title=1\ncode\n```\n\n```<img/src=x/onerror=document.title=1>\ncode\n```',
    "`<img src=x onerror=document.title=1>`",
    "| <img src=x onerror=document.title=1> |\n|---|\n| </td><script>document.title=1</script> |",
    "&lt;script&gt;document.title=1&lt;/script&gt;",
    "</div></article><script>document.title=1</script><!--",
    "{{constructor.constructor('document.title=1')()}} ${document.title=1}",
)
# Each takes a parser that goes back over its text minutes.
DEEP = ("[" * 20_000, "> " * 3_000 + "x", "*a_ " * 5_000, "- " * 2_000 + "x", "`" * 10_000 + "x", "![" * 10_000)


def test_marks_are_shown_and_a_reload_keeps_them(tab: Tab) -> None:
    tab.answer(MARKDOWN)
    tab.ask("# Hi *there*")
    tab.answers()
    expect(tab.page.locator("article.user .text")).to_have_text("# Hi *there*")
    for _ in range(2):
        answer = tab.page.locator("article.assistant .text")
        expect(answer.locator("h1")).to_have_text("A heading")
        expect(answer.locator("strong")).to_have_text("bold")
        expect(answer.locator("p > code")).to_have_text("a<b")
        expect(answer.locator("br")).to_have_count(1)
        expect(answer.locator("ol > li li")).to_have_text("inner")
        expect(answer.locator("td").last).to_have_css("text-align", "right")
        expect(answer.locator("blockquote")).to_have_text("said")
        expect(answer.locator("pre code")).to_have_text("<b>&amp;</b>\n")
        hrefs = answer.locator("a").evaluate_all("all => all.map(a => [a.getAttribute('href'), a.rel, a.target])")
        assert [href for href, *_ in hrefs] == [
            "https://example.com/page",
            "https://example.com/?a=1&b=2",
            "https://example.com/spy.png",
            "https://example.com/later",
        ]
        assert all(rel == "noopener noreferrer nofollow ugc" and target == "_blank" for _, rel, target in hrefs)
        assert answer.locator("img").count() == 0
        tab.page.reload()


def test_nothing_that_a_model_writes_runs(tab: Tab) -> None:
    tab.answer("\n\n".join(ATTACKS), pieces=40)
    tab.ask("Hi")
    tab.answers()
    answer = tab.page.locator("article.assistant .text")
    found = answer.evaluate(
        """text => [...text.querySelectorAll("*")]
        .flatMap(e => [e.localName, ...e.getAttributeNames().map(n => "@" + n)])"""
    )
    allowed = "p a em strong code pre table thead tbody tr th td br h1 h2 hr ul ol li blockquote"
    assert set(found) <= {*allowed.split(), "@href", "@rel", "@target", "@title", "@class", "@tabindex"}
    hrefs = answer.locator("a").evaluate_all("all => all.map(a => a.href)")
    assert hrefs
    assert all(href.startswith("https://evil.example/") for href in hrefs)
    for link in answer.locator("a").all():
        link.dispatch_event("mouseover")
    assert tab.page.title().startswith("Chat with")
    # Were there an element with a handler after all, it would not run: the page's policy has only its own scripts.
    with tab.page.expect_event("console"):
        tab.page.evaluate(
            """document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='document.title=1'>")"""
        )
    assert tab.page.title().startswith("Chat with")
    tab.complaints.clear()


@pytest.mark.parametrize("pieces", [1, 2_000])
def test_a_growing_answer_is_drawn_as_the_whole_one(tab: Tab, pieces: int) -> None:
    """Whatever was fixed on the way; and blocks that are done stay the same elements."""
    lines = MARKDOWN.replace("\n", "\r\n").replace("two\r\n", "two\r")
    same = tab.page.evaluate(
        """([text, pieces]) => {
            const [whole, grown] = [document.createElement("div"), document.createElement("div")]
            const draw = drawer(grown)
            const step = Math.ceil(text.length / pieces)
            let first = null
            for (let i = step; i < text.length + step; i += step) {
                draw(text.slice(0, i))
                if (i > 60) first ??= grown.firstChild
            }
            render(whole, text)
            return [whole.innerHTML.replace(/later\\]|\\[later|<a[^>]*later.*?a>/g, ""),
                    grown.innerHTML.replace(/later\\]|\\[later|<a[^>]*later.*?a>/g, ""), first === grown.firstChild]
        }""",
        [lines, pieces],
    )
    assert same[0] == same[1]
    assert same[2]


def test_long_and_deep_answers_do_not_hold_the_page(tab: Tab) -> None:
    shown = tab.page.evaluate(
        """texts => texts.map(text => {
            const node = document.createElement("div")
            render(node, text)
            return node.textContent.length
        })""",
        list(DEEP),
    )
    assert all(shown)
    # A drawing costs what its last block does, not what all the answer does: 2,000 paragraphs, one more each time.
    drawn = tab.page.evaluate(
        """() => {
            const node = document.createElement("div"), draw = drawer(node)
            let text = "", read = 0
            const parse = markdown.parse.bind(markdown)
            markdown.parse = (source, env) => { read += source.length; return parse(source, env) }
            for (let i = 0; i < 2000; i++) draw(text += "Some **words** of a paragraph.\\n\\n")
            return [read / text.length, node.querySelectorAll("p").length]
        }"""
    )
    assert drawn[0] < 10
    assert drawn[1] == 2_000


def test_a_narrow_screen_has_tables_and_code(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 320, "height": 500})
    row = "|" + " a_rather_long_heading |" * 9
    tab.answer(
        f"{row}\n{'|---' * 9}|\n{row}\n\n```\n{'code ' * 60}\n```\n\n# {'x' * 200}\n\n<https://example.com/{'y' * 300}>"
    )
    tab.ask("Hi")
    tab.answers()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 320
    assert tab.page.evaluate("document.querySelector('main').scrollWidth") <= 320
