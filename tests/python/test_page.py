"""The page of `mobe serve` in headless Chromium: what a user does, with a keyboard, on a
narrow screen, in the dark. The answers come from page_server.py."""

import json

import pytest

pytest.importorskip("selenium", reason="scripts/venv.sh installs selenium")
from page_driver import SECONDS, page, server
from page_server import MARKDOWN, content
from selenium.webdriver.common.keys import Keys


def test_send_and_stream(page, server):
    go_on = []

    def slowly():
        yield {"content": "One"}
        page.wait(lambda: go_on)
        yield from content(*" two three four five six")

    server.answers["Count"] = slowly()
    page.type("#message", "Count" + Keys.ENTER)
    page.wait(lambda: page.answers() == ["One"])
    assert page.shows("#chat .stop") and not page.shows("#send")
    go_on.append(True)
    page.ended()
    assert page.answers() == ["One two three four five six"]
    assert page.said() == ["Count"]
    stats = page.text(".answer .stats")
    assert "25 tokens" in stats and "tokens/s" in stats and "first after 0." in stats
    assert server.asked[0]["messages"] == [{"role": "user", "content": "Count"}]
    page.say("And on")
    assert [m["role"] for m in server.asked[1]["messages"]] == ["user", "assistant", "user"]


def forever():
    for number in range(10**9):
        yield {"content": f"{number} "}


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop(page, server, how):
    server.answers["Go"], server.pause = forever(), 0.01
    page.type("#message", "Go" + Keys.ENTER)
    page.wait(lambda: page.answers() and "5 6 7" in page.answers()[0])
    if how == "button":
        page.press("Stop")
    else:
        page.keys(Keys.ESCAPE)
    page.ended()
    assert server.gone.wait(SECONDS), "the server did not notice"
    assert page.answers()[0].startswith("0 1 2") and "Stopped." in page.text(".answer")


def test_regenerate(page, server):
    server.answers["Pick"] = content("heads")
    page.say("Pick")
    page.say("More")
    server.answers["Pick"] = content("tails")
    page.press("Regenerate", "article:nth-child(2)")
    page.ended()
    assert page.answers() == ["tails"] and page.said() == ["Pick"]
    assert server.asked[2]["messages"] == server.asked[0]["messages"]


def test_edit(page, server):
    page.say("Frist")
    page.say("Second")
    page.press("Edit", "article:first-child")
    page.type(".edit textarea", "First")
    page.press("Send again")
    page.ended()
    assert page.said() == ["First"] and page.answers() == ["Echo: First"]
    page.press("Edit", "article:first-child")
    page.type(".edit textarea", "Thrown away")
    page.press("Cancel")
    assert page.said() == ["First"] and len(server.asked) == 3


def test_conversations(page, server):
    page.say("About cats")
    page.press("New conversation")
    assert page.answers() == []
    page.say("About dogs")
    assert page.text("#conversations a") == "About dogs\nAbout cats"
    page.click("#conversations a:not([aria-current])")
    page.wait(lambda: page.said() == ["About cats"])
    page.press("Rename")
    page.keys("Felines", Keys.ENTER)
    assert "Felines" in page.text("#conversations a")
    page.press("Delete")
    page.driver.switch_to.alert.accept()
    page.wait(lambda: page.said() == ["About dogs"])
    assert page.text("#conversations a") == "About dogs"


def test_answer_goes_on_when_another_is_shown(page, server):
    server.answers["Long"], server.pause = content(*"abcdefghijklmnopqrst"), 0.02
    page.type("#message", "Long" + Keys.ENTER)
    page.wait(lambda: page.answers() and page.answers()[0])
    page.press("New conversation")
    assert page.answers() == [] and page.shows("#send")
    page.click("#conversations a:not([aria-current])")
    page.wait(lambda: page.answers() == ["abcdefghijklmnopqrst"])


def test_reload_keeps_all(page, server):
    page.say("Remember me")
    page.type("#message", "not sent yet")
    page.wait(lambda: "not sent" in page.run("return Object.values(localStorage).join()"))
    page.reload()
    assert page.said() == ["Remember me"] and page.answers() == ["Echo: Remember me"]
    assert page.find("#message").get_attribute("value") == "not sent yet"


def test_reload_amid_an_answer(page, server):
    server.answers["Go"], server.pause = forever(), 0.01
    page.type("#message", "Go" + Keys.ENTER)
    page.wait(lambda: page.answers() and "5 6 7" in page.answers()[0])
    page.reload()
    assert page.answers()[0].startswith("0 1 2") and "Stopped." in page.text(".answer")


def test_model_that_is_being_loaded(page, server):
    server.loading = 1
    page.driver.refresh()
    page.wait(lambda: "being loaded" in page.text("#notice"))
    page.wait(lambda: page.shows("#message") and not page.shows("#notice"))


def test_two_tabs(page, server):
    page.say("In the first tab")
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.open()
    page.say("In the second")
    page.driver.close()
    page.driver.switch_to.window(first)
    page.wait(lambda: page.said() == ["In the first tab", "In the second"])


def test_settings_are_sent(page, server):
    page.press("Settings")
    assert page.find("[name=temperature]").get_attribute("placeholder") == "0.7"
    values = {"temperature": 0.3, "top_p": 0.9, "top_k": 5, "min_p": 0.1}
    values |= {"max_tokens": 77, "seed": 42}
    for name, value in values.items():
        page.type(f"[name={name}]", str(value))
    page.type("[name=system]", "Be brief.")
    page.press("Close")
    page.reload()
    page.say("Hello")
    body = server.asked[0]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {name: body[name] for name in values} == values
    page.press("Settings")
    page.press("Empty all")
    page.type("[name=top_p]", "7")  # more than there can be
    page.press("Empty all")
    page.press("Close")
    page.say("Hello")
    assert server.asked[1].keys() == {"messages", "stream", "stream_options"}


@pytest.mark.parametrize("status", [429, 503])
def test_errors_lose_nothing(page, server, status):
    server.failure = status, "the queue is full"
    page.say("Important words")
    (line,) = [node for node in page.all("#chat [role=alert]") if node.is_displayed()]
    assert f"({status}): the queue is full" in line.text
    assert page.said() == ["Important words"] and page.answers() == []
    page.reload()
    assert page.said() == ["Important words"] and str(status) in page.text(".failure")
    page.press("Try again")
    page.ended()
    assert page.answers() == ["Echo: Important words"] and not page.text(".failure").strip()


def test_connection_that_breaks(page, server):
    def broken():
        yield from content("A part ")
        raise BrokenPipeError

    server.answers["Break"] = broken()
    page.say("Break")
    assert page.answers() == ["A part"] and "ended before" in page.text(".failure")


def test_thoughts_and_calls(page, server):
    call = {"name": "weather", "arguments": '{"town":"Oslo"}'}
    server.answers["Think"] = [
        {"reasoning_content": "Let me "},
        {"reasoning_content": "see."},
        {"content": "It rains."},
        {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": call}]},
    ]
    page.say("Think")
    assert page.answers() == ["It rains."]
    assert not page.shows(".answer details .said")
    page.click(".answer summary")
    assert page.text(".answer details .said") == "Let me see."
    assert "weather" in page.text(".call p") and '"town": "Oslo"' in page.text(".call pre")
    page.say("So?")
    answer = server.asked[1]["messages"][1]
    assert answer["content"] == "It rains." and "Let me see" not in json.dumps(answer)
    assert answer["tool_calls"][0]["function"] == call


def test_model(page, server):
    page.click("#model-tab")
    page.wait(lambda: page.shows("#model"))
    shown = page.text("#model")
    for text in [
        "tiny-mobe",
        "gate, up and down of 4 layers, 8 bases of rank 96, silu",
        "fused",
        "55.0\xa0%",
        "49,500,000",
        "200.00\xa0MB",
        "8.00\xa0GB",
    ]:
        assert text in shown, text
    assert len(page.all("#model div > svg.chart .line")) == 3
    assert len(page.all("#model div > svg.chart .point")) == 12
    page.click("#model summary")
    assert "26.00\xa0%" in page.text("#model details")
    page.press("Show the report")
    page.driver.switch_to.frame(page.find("#model iframe"))
    page.wait(lambda: page.text("h1") == "MoBE report")
    assert page.run("return getComputedStyle(document.querySelector('h1')).color") == (
        "rgb(255, 0, 0)"
    )
    page.driver.switch_to.default_content()
    server.props |= {"compression": None, "factored": False}
    page.click("#chat-tab")
    page.click("#model-tab")
    page.wait(lambda: "nothing is compressed" in page.text("#model"))
    assert not page.all("#model svg") and not page.all("#model iframe")


def test_keyboard_only(page, server):
    active = lambda: page.run(
        "const at = document.activeElement; return at.id || (at !== document.body && at.innerText)"
    )
    assert active() == "message"
    page.find("#message").send_keys("Two", Keys.SHIFT, Keys.ENTER, Keys.SHIFT, "lines")
    page.keys(Keys.ENTER)
    page.ended()
    assert page.said() == ["Two\nlines"] and active() == "message"
    page.run("document.querySelector('#skip').focus()")
    visited = ["skip"]
    while visited[-1] != "send":
        page.keys(Keys.TAB)
        visited.append(active())
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        assert not active() or page.run(outline) != "none", active()
        assert len(visited) < 30, visited
    head = ["skip", "chat-tab", "model-tab", "show-settings", "new", "Two lines"]
    body = ["Rename", "Delete", "Edit", "Copy", "Regenerate", "message", "send"]
    assert [name for name in visited if name and name != "messages"] == head + body
    page.find("#show-settings").send_keys(Keys.ENTER)
    assert active() == "set-system"
    page.keys(Keys.ESCAPE)
    page.wait(lambda: active() == "show-settings")
    page.find("#new").send_keys(Keys.ENTER)
    assert active() == "message" and page.said() == []


def test_names_for_screen_readers(page, server):
    page.say("Hello")
    page.wait(lambda: page.text("#status") == "Echo: Hello")
    assert page.find("#status").get_attribute("role") == "status"
    for css in ["header", "main", "nav#list", "#model-tab"]:
        assert page.find(css).accessible_name or css in ["header", "main"]
    for node in page.all("button, input, textarea, a, select"):
        if node.is_displayed():
            assert node.accessible_name, node.get_attribute("outerHTML")
    assert page.find("#chat-tab").get_attribute("aria-current") == "page"
    assert page.find("#messages").get_attribute("aria-busy") == "false"


def test_narrow_screen(page, server):
    server.answers["Show"] = content(MARKDOWN, "\n\n", "x" * 500)
    page.size(360, 640)
    page.say("Show")
    wide = "return document.documentElement.scrollWidth + document.querySelector('main').scrollWidth"
    box = "const b = document.querySelector('#messages'); return b.scrollWidth - b.clientWidth"
    assert page.run(wide) == 720 and page.run(box) == 0
    assert not page.shows("#list")
    page.press("Conversations")
    assert page.shows("#list") and page.run(wide) - 360 <= 360
    page.press("New conversation")
    assert not page.shows("#list") and page.shows("#message")
    page.click("#model-tab")
    page.wait(lambda: page.shows("#model svg"))
    box = box.replace("#messages", "#model")
    assert page.run(wide) == 720 and page.run(box) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_schemes(page, server, scheme):
    page.scheme(scheme)
    server.answers["Show"] = [{"reasoning_content": "Hm"}, *content(MARKDOWN)]
    page.say("Show")
    server.failure = 429, "full"
    page.say("More")
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 23, 26)"}[scheme]
    least, text = page.contrast()
    assert least >= 4.5, text
    page.click("#model-tab")
    page.wait(lambda: page.shows("#model svg"))
    least, text = page.contrast()
    assert least >= 4.5, text


def test_key(page, server):
    server.key = "a secret of the server"
    page.driver.refresh()
    page.wait(lambda: page.shows("#key-value"))
    page.type("#key-value", "wrong" + Keys.ENTER)
    page.wait(lambda: page.shows("#key-wrong"))
    page.type("#key-value", server.key + Keys.ENTER)
    page.wait(lambda: page.shows("#message"))
    page.say("Hello")
    assert page.answers() == ["Echo: Hello"]
    page.reload()  # which keeps it
    page.click("#model-tab")
    page.press("Save the report")
    page.wait(lambda: "being made" not in page.text("#model [role=status]"))


def test_continue_a_text(page, server):
    server.props["chat"] = False
    page.open()
    server.answers["Once"] = content(" upon", " a", " time")
    page.type("#draft", "Once")
    page.press("Continue")
    page.ended()
    value = lambda: page.find("#draft").get_attribute("value")
    assert value() == "Once upon a time" and server.asked[0]["max_tokens"] == 256
    server.answers["Once"] = content(" more")
    page.press("Try another way")
    page.ended()
    assert value() == "Once more"
    server.failure = 503, "the server is shutting down"
    page.press("Continue")
    page.wait(lambda: "503" in page.text("#text .failure"))
    assert value() == "Once more"
    page.reload()
    assert value() == "Once more"
