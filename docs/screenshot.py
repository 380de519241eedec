"""Take docs/page.png: a sample shop, nine nights of training, and the page in headless Chromium.

Run `python docs/screenshot.py`. It needs Debian's packages `chromium`, `chromium-driver` and `pngquant`. The shop has
three more days each night. One night it is down and one night half of its events are missing, so that the ledger shows
a failed and a refused run. The sample shop's items have no pictures.
"""

import base64
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from jobs.init_file import sample
from jobs.train import train
from recsys.config.loading import load_config
from recsys.errors import RecsysError

PICTURE = Path(__file__).parent / "page.png"
ADDRESS = "user=1003&user-k=6&item=P00024&item-k=3"
SETTINGS = """
[training]
models = ["mf"]
[models.mf]
n_factors = [32]
item_exponents = [0.4]
user_exponents = [0.5]
popularity_exponents = [0.2]
recency_half_life_days = [20]
recency_exponents = [0.3]
"""
QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars")
QUIET += ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1080,1000")
IS_FILLED = "return document.querySelectorAll('.hits').length === 3 && !document.querySelector('[aria-busy]')"
DAYS_AGO = range(24, -1, -3)  # of each night
DOWN, HALF = 4, 6  # nights without a database, and with half of the events
TIMES = {"page_views": "viewed_at", "cart_events": "added_at", "orders": "placed_at"}


def main() -> None:
    """Make the shop, train night by night, serve, and take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        sample(shop, users=3_000, items=600, events=60_000, seed=0, progress=quiet)
        with (shop / "recsys.toml").open("a", encoding="utf-8") as settings:
            settings.write(SETTINGS)
        full = (shop / "shop.db").rename(shop / "full.db")
        for number, days_ago in enumerate(DAYS_AGO):
            pass_night(shop, full, number, days_ago)
        serve_and_photograph(shop)


def pass_night(shop: Path, full: Path, number: int, days_ago: int) -> None:
    """Train on the shop as it was then. Refused and failed runs stay in the ledger."""
    shutil.copy(full, shop / "shop.db")
    with closing(sqlite3.connect(shop / "shop.db")) as database:
        last = database.execute("SELECT max(viewed_at) FROM page_views").fetchone()[0]
        for table, column in TIMES.items():
            database.execute(f"DELETE FROM {table} WHERE {column} > datetime(?, ?)", (last, f"-{days_ago} days"))
            if number == HALF:
                database.execute(f"DELETE FROM {table} WHERE id % 2 = 0")
        database.commit()
    changed = {"RECSYS_STORAGE__KEEP_BUNDLES": "3"}
    if number == DOWN:
        changed["RECSYS_SOURCE__URL"] = "sqlite:////srv/shop.db"
    with suppress(RecsysError):
        train(load_config(shop / "recsys.toml", changed), progress=quiet)


def serve_and_photograph(shop: Path) -> None:
    """Serve the shop and write the picture of its page."""
    port = free_port()
    command = [sys.executable, "-m", "jobs.cli", "serve", "--config", str(shop / "recsys.toml")]
    server = subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/v1/health/ready")
        taken = photograph(f"http://127.0.0.1:{port}/#{ADDRESS}", shop / "browser")
        PICTURE.write_bytes(
            subprocess.run(["pngquant", "64", "-"], input=taken, stdout=subprocess.PIPE, check=True).stdout
        )
    finally:
        server.terminate()
        server.wait()


def photograph(address: str, profile: Path) -> bytes:
    """A PNG of the whole page at an address, as Chromium shows it without a network."""
    options = Options()
    options.binary_location = str(shutil.which("chromium"))
    for option in (*QUIET, f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"):
        options.add_argument(option)
    driver = Chrome(options=options, service=Service(executable_path=shutil.which("chromedriver")))
    try:
        driver.get(address)
        WebDriverWait(driver, 60).until(lambda page: page.execute_script(IS_FILLED))
        size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        asked = {"clip": clip, "captureBeyondViewport": True}
        return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"])
    finally:
        driver.quit()


def wait_for(address: str) -> None:
    """Wait until the service is ready. Raises TimeoutError after half a minute."""
    for _ in range(300):
        with suppress(OSError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.1)
    raise TimeoutError(address)


def free_port() -> int:
    """An unused port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def quiet(step: str, share: float) -> None:
    """Show no progress."""


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
