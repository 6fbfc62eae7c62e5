"""The page of `mobe serve` in headless Chromium, as a test uses it."""

import json
import shutil
import time

import pytest
from page_server import PageServer
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

SECONDS = 30  # that anything may take, on a machine that does much else

SHOWN = """const shown = (css) => [...document.querySelectorAll(css)]
    .filter((node) => node.checkVisibility({ visibilityProperty: true }));"""

# The contrast of a text with what is behind it, by WCAG's formula.
CONTRAST = """
const light = ([r, g, b]) => [r, g, b]
  .map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  const colour = numbers(getComputedStyle(node).backgroundColor);
  return colour[3] === 0 && node.parentElement ? ground(node.parentElement) : colour;
};
return [...document.querySelectorAll("body *")]
  .filter((node) => node.checkVisibility() && node.innerText && node.children.length === 0)
  .map((node) => {
    const [a, b] = [light(numbers(getComputedStyle(node).color)), light(ground(node))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.innerText.slice(0, 40)];
  })
  .sort((a, b) => a[0] - b[0])[0];
"""


def start_browser():
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no chromium and chromedriver; scripts/setup.sh develop installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.add_argument("--headless=new")
    options.add_argument("--no-sandbox")  # which root can't have
    options.add_argument("--disable-dev-shm-usage")
    options.add_argument("--disable-gpu")  # nor try to find one
    options.add_argument("--disable-background-networking")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option("perfLoggingPrefs", {"enablePage": False})
    return webdriver.Chrome(options, Service(chromedriver))


class Page:
    """What tests do with the page. Waits until it can be done."""

    def __init__(self, driver, address):
        self.driver = driver
        self.address = address

    def open(self):
        self.driver.get(self.address)
        self.wait(lambda: self.shows("#message") or self.shows("#draft"))

    def reload(self):
        self.driver.refresh()
        self.wait(lambda: self.shows("#message") or self.shows("#draft"))

    def size(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name):
        feature = {"name": "prefers-color-scheme", "value": name}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def wait(self, condition, seconds=SECONDS):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := condition():
                return result
            time.sleep(0.05)
        pytest.fail(f"not within {seconds} s; the page says:\n{self.text('body')}")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def find(self, css):
        return self.wait(lambda: self.all(css))[0]

    def text(self, css):
        script = "return [...document.querySelectorAll(arguments[0])].map(n => n.innerText)"
        return "\n".join(self.run(script, css))

    def shows(self, css):
        return self.run(f"{SHOWN} return shown(arguments[0]).length > 0", css)

    def click(self, css):
        self.find(css).click()

    def press(self, name, within="body"):
        """The last button of that name."""
        script = f"""{SHOWN} return shown(arguments[0])
            .filter((node) => node.innerText === arguments[1]).at(-1)"""

        def pressed():
            button = self.run(script, f"{within} button", name)
            try:
                button and button.click()
            except StaleElementReferenceException:  # drawn anew in between
                return False
            return button is not None

        self.wait(pressed)

    def keys(self, *keys):
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def type(self, css, text):
        field = self.find(css)
        field.clear()
        field.send_keys(text)

    def say(self, text):
        self.type("#message", text + Keys.ENTER)
        self.ended()

    def ended(self):
        self.wait(lambda: not self.shows(".stop"))

    def busy(self):
        """Seconds that its thread has computed, whatever others did meanwhile."""
        self.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        metrics = self.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(m["value"] for m in metrics if m["name"] == "TaskDuration")

    def contrast(self):
        """The least of what is shown, and its text."""
        return self.run(CONTRAST)

    def answers(self):
        return self.run(
            "return [...document.querySelectorAll('.answer .markdown')].map(n => n.innerText)"
        )

    def said(self):
        return self.run(
            "return [...document.querySelectorAll('.user .said')].map(n => n.innerText)"
        )


def check_logs(driver, address):
    """Nothing was asked of others, and nothing was refused by the policy."""
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            assert url.startswith((address, "data:", "blob:", "about:", "chrome:")), url
    for entry in driver.get_log("browser"):
        text = entry["message"]
        assert "Content Security Policy" not in text and "Uncaught" not in text, text


def fresh(driver, address):
    """The page as a new user has it, on a wide and light screen."""
    driver.get(address + "/health")  # which is faster, and has the same storage
    driver.execute_script("localStorage.clear(); sessionStorage.clear()")
    page = Page(driver, address)
    page.size(1200, 900)
    page.scheme("light")
    return page


@pytest.fixture(scope="module")
def server():
    server = PageServer()
    yield server
    server.shutdown()


@pytest.fixture
def page(browser, server):
    server.reset()
    page = fresh(browser, server.address)
    page.open()
    yield page
    check_logs(browser, server.address)
