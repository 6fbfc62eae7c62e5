"""The page in Chromium as the program serves it."""

import pytest

pytest.importorskip("selenium", reason="scripts/venv.sh installs selenium")
from page_driver import check_logs, fresh
from page_server import policy
from scripted import write_scripted
from selenium.webdriver.common.keys import Keys
from serving import serving

SCRIPTS = {
    "<hello>": ["Hello ", "<script>window.ran = 1</script>", " **there**"],
    "<thinks>": ["<think>\nHm", ", so.\n</think>\n\n", "Yes."],
    "<loop>": ["la, ", "lu, ", "la, "],
}


@pytest.fixture(scope="module")
def mini(mobe_program, models):
    """A base model."""
    with serving(mobe_program, models / "mini-qwen3-moe") as running:
        yield running


@pytest.fixture(scope="module")
def chatting(mobe_program, models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "scripted"
    write_scripted(folder, SCRIPTS, models / "mini-qwen3-moe/tokenizer.json")
    with serving(mobe_program, folder) as running:
        yield running


def open_page(browser, server):
    page = fresh(browser, server.url)
    page.open()
    return page


def test_files_and_policies(mini):
    kinds = {"/": "text/html; charset=utf-8"}
    kinds |= {"/page/page.js": "text/javascript", "/page/page.css": "text/css"}
    for path, kind in kinds.items():
        status, headers, _ = mini.request(path)
        assert status == 200 and headers["Content-Type"] == kind
        assert headers["Content-Security-Policy"] == policy("kPagePolicy")
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert "unsafe" not in policy("kPagePolicy")
    assert mini.request("/props")[1]["Content-Security-Policy"] == policy("kAnswerPolicy")
    for path in ["/page/none.js", "/page/openapi.json", "/page/..%2fopenapi.json"]:
        assert mini.request(path)[0] == 404


def test_base_model(browser, mini):
    page = open_page(browser, mini)
    page.press("Settings")
    page.type("[name=seed]", "1")
    page.type("[name=max_tokens]", "12")
    page.press("Close")
    page.type("#draft", "Once upon a time")
    page.press("Continue")
    page.ended()
    first = page.find("#draft").get_attribute("value")
    assert first.startswith("Once upon a time") and len(first) > 20
    assert "12 tokens" in page.text("#text .stats")
    page.press("Try another way")
    page.ended()
    assert page.find("#draft").get_attribute("value") == first  # of the same seed
    page.click("#model-tab")
    page.wait(lambda: "mini-qwen3-moe" in page.text("#model"))
    assert "nothing is compressed" in page.text("#model")
    check_logs(browser, mini.url)


def test_chat(browser, chatting):
    page = open_page(browser, chatting)
    page.say("<hello>")
    assert page.answers() == ["Hello <script>window.ran = 1</script> there"]
    assert page.text(".markdown strong") == "there" and page.run("return !window.ran")
    page.say("<thinks>")
    assert page.answers()[1] == "Yes."
    page.click("details:not([hidden]) summary")
    assert page.text("details:not([hidden]) .said").strip() == "Hm, so."
    gone = chatting.metric("mobe_clients_gone_total")
    page.type("#message", "<loop>" + Keys.ENTER)
    page.wait(lambda: "la, lu, la" in page.answers()[-1])
    page.press("Stop")
    page.ended()
    page.wait(lambda: chatting.metric("mobe_clients_gone_total") == gone + 1)
    check_logs(browser, chatting.url)
