"""How the page of `mobe serve` shows what a model writes: as Markdown, without running any
of it, and without taking long."""

import pytest

pytest.importorskip("selenium", reason="scripts/venv.sh installs selenium")
from page_driver import page, server
from page_server import MARKDOWN, content
from selenium.webdriver.common.keys import Keys


def test_markdown_and_copy(page, server):
    pieces = [MARKDOWN[at : at + 3] for at in range(0, len(MARKDOWN), 3)]
    server.answers["Show"] = content(*pieces)
    page.say("Show")
    assert page.text(".markdown h3") == "Title"
    assert page.text(".markdown strong") == "bold"
    assert page.text(".markdown em") == "italic"
    assert page.text(".markdown p code") == "code"
    (link,) = page.all(".markdown a")
    assert link.get_attribute("href") == "https://example.org/a_(b)"
    assert link.get_attribute("rel") == "noopener noreferrer"
    assert page.text(".markdown ol > li > ul > li") == "inner"
    assert page.text(".markdown blockquote") == "quoted"
    assert page.text(".markdown td.end") == "2"
    assert page.text(".code .bar span") == "python"
    assert "snake_case_name" in page.text(".markdown p")
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    page.press("Copy", ".code")
    page.wait(lambda: page.text(".code button") == "Copied")
    assert page.run("return navigator.clipboard.readText()") == 'print("<b>")'


def test_growing_text_is_as_if_it_came_whole(page):
    """All prefixes of what streams in, against the whole that they become."""
    same = page.driver.execute_async_script(
        """
        const [text, done] = arguments;
        (async () => {
          const { LiveMarkdown } = await import("/page/live.js");
          const root = () => document.createElement("div");
          const growing = new LiveMarkdown(root());
          for (let n = 1; n <= text.length; ++n) {
            growing.set(text.slice(0, n));
            const whole = new LiveMarkdown(root());
            whole.set(text.slice(0, n));
            if (!growing.root.isEqualNode(whole.root)) return done(text.slice(0, n));
          }
          done(true);
        })();
        """,
        MARKDOWN + "\n\nlast\n-5 is\n- item\n\n  more\n````\ncode ```\n````\n***both*** **a *b**",
    )
    assert same is True


HOSTILE = """\
<script>window.ran = 1</script><img src=x onerror="window.ran = 2">

- <svg onload="window.ran = 3"></svg>
- [x](javascript:window.ran=4) [y](data:text/html,<script>window.ran=5</script>)

| <iframe srcdoc="<script>parent.ran = 6</script>"> | ![i](http://127.0.0.1:1/i.png) |
|---|---|
| <style>body { display: none }</style> | <a href="javascript:window.ran=7">z</a> |

```html"><script>window.ran = 8</script>
<script>window.ran = 9</script>
```"""


def test_markup_of_a_model_stays_text(page, server):
    thought = '<img src=y onerror="window.ran = 10">'
    call = {"name": "<b>f</b>", "arguments": "<script>window.ran = 11</script>"}
    server.answers["Attack"] = [
        {"reasoning_content": thought},
        *content(*HOSTILE),
        {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": call}]},
    ]
    page.say("Attack")
    page.reload()
    made = "script, img, svg, iframe, style, a, b"
    inside = ", ".join(f".answer {tag}" for tag in made.split(", "))
    made = [node.get_attribute("outerHTML") for node in page.all(inside)]
    # An image is a link that nobody follows unasked.
    assert made == [
        '<a href="http://127.0.0.1:1/i.png" target="_blank" rel="noopener noreferrer">i</a>'
    ]
    assert page.run("return window.ran === undefined")
    shown = page.text(".answer")
    assert "<script>window.ran = 1</script><img src=x" in shown
    assert "[x](javascript:window.ran=4)" in shown and "<b>f</b>" in shown


def test_long_answer(page, server):
    """100 kB of many blocks, while the user goes on typing."""
    part = MARKDOWN.replace("# Title", "## Part") + "\n\n"
    long = part * (100_000 // len(part) + 1)
    server.answers["Long"] = content(*[long[at : at + 40] for at in range(0, len(long), 40)])
    busy = page.busy()
    page.run(
        """
        window.worst = 0;
        let last = performance.now();
        setInterval(() => {
          const now = performance.now();
          window.worst = Math.max(window.worst, now - last);
          last = now;
        }, 10);
        """
    )
    page.type("#message", "Long" + Keys.ENTER + "meanwhile")
    page.ended()
    busy, worst = page.busy() - busy, page.run("return window.worst")
    print(f"{len(long)} bytes: busy for {busy:.2f} s, at most {worst:.0f} ms without a pause")
    assert page.find("#message").get_attribute("value") == "meanwhile"
    assert len(page.all(".markdown h4")) == long.count("## Part")
    assert len(page.all(".markdown .code")) == long.count("```python")
    assert busy < 5


# What would take some readers of Markdown a time that grows as the square of the length.
TANGLED = ["*a ", "[", "`", "a_b ", "> ", "- ", "|", "```\n", "**a*", "[](http://", "` ``"]


def test_no_text_takes_long_to_read(page):
    busy = page.busy()
    page.driver.execute_async_script(
        """
        const [texts, done] = arguments;
        import("/page/live.js").then(({ LiveMarkdown }) => {
          for (const text of texts) {
            new LiveMarkdown(document.createElement("div")).set(text);
          }
          done();
        });
        """,
        [text * (100_000 // len(text)) for text in TANGLED],
    )
    busy = page.busy() - busy
    print(f"{len(TANGLED)} texts of 100 kB: busy for {busy:.2f} s")
    assert busy < 5
