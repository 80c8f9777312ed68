"""`python -m tests.pictures`: the pictures of the README, from the running page in Chromium, into `assets/pictures`."""

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from dit_core import load_suite
from tests.serving import served

FOLDER = Path(__file__).parents[1] / "assets" / "pictures"
CHROMIUM = ["--no-sandbox", "--disable-background-networking"]
COLOURS = 128  # a page has few: a palette makes a picture a third as large


def main(executable: str = "/usr/bin/chromium") -> None:
    """Takes a picture of each of the tabs that a reader should see, light and dark."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with served(load_suite("pocket")) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM)
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1400, "height": 1500}, color_scheme=scheme)
            page.goto(f"{address}?__theme={scheme}")
            _answered(page)
            _save(page, f"explore-{scheme}")
        browser.close()


def _answered(page: Page) -> None:
    """Asks, and waits until the cards and the plot under them have filled."""
    page.wait_for_selector(".dit-cards:has(.dit-done):not(:has(.dit-running)):not(:has(.dit-waiting))")
    page.click("#dit-ask")
    page.wait_for_selector("#dit-oracle-figure .js-plotly-plot .scatterlayer .trace", timeout=60_000)
    page.wait_for_timeout(8_000)  # all layers, and what evidence there is


def _save(page: Page, name: str) -> None:
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
