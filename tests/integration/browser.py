"""Debian's Chromium without a window, on a page of the service; it remembers what it was told and what it asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60.0  # machines that run tests are busy
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1200,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a request to anybody else fails, and is seen
)


class Browser:
    """A tab with a profile of its own."""

    def __init__(self, profile: Path, *, chromium: str, driver: str) -> None:
        options = Options()
        options.binary_location = chromium
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options=options, service=Service(executable_path=driver))
        self._requests: list[tuple[str, str]] = []

    def open(self, url: str) -> None:
        self.driver.get(url)

    def text(self, selector: str) -> str:
        """The text that is seen in an element."""
        return str(self.driver.find_element(By.CSS_SELECTOR, selector).text)

    def texts(self, selector: str) -> list[str]:
        return [str(one.text) for one in self.driver.find_elements(By.CSS_SELECTOR, selector)]

    def count(self, selector: str) -> int:
        return len(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def is_seen(self, selector: str) -> bool:
        return bool(self.driver.find_element(By.CSS_SELECTOR, selector).is_displayed())

    def type(self, selector: str, text: str) -> None:
        field = self.driver.find_element(By.CSS_SELECTOR, selector)
        field.clear()
        field.send_keys(text)

    def press(self, selector: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any]) -> None:
        """Until it is true; what is not there yet counts as false."""
        WebDriverWait(self.driver, SECONDS).until(lambda _: condition(), self.text("body"))

    def complaints(self) -> list[str]:
        """What the console was told since the last time: errors and warnings."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[tuple[str, str]]:
        """What was asked for so far, and where: ("Image", url), …; not what the empty first tab asks for."""
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            message = json.loads(entry["message"])["message"]
            asked = message["params"]
            is_request = message["method"] == "Network.requestWillBeSent"
            if is_request and not asked["documentURL"].startswith("chrome://"):
                self._requests.append((asked["type"], asked["request"]["url"]))
        return self._requests
