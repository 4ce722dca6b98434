"""Take the pictures of the workbench that the pages show: train in it, explore, draw rows of a table; in a real browser.

Run it from the repository, with Chromium and Playwright there: `python docs/make_screenshots.py DATA TABLE`, DATA a folder or file of pictures
with labels, TABLE a CSV of mixed columns.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parent / "img"
WIDE, DARK = {"viewport": {"width": 1240, "height": 1000}}, {"color_scheme": "dark"}
MINUTES = 10


def main(data: str, table: str, epochs: str = "6") -> None:
    """Start a workbench, use it, and keep what it looks like."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        Path(folder, "data").mkdir()
        place, rows = (Path(folder, "data", Path(name).name) for name in (data, table))
        for link, name in ((place, data), (rows, table)):
            link.symlink_to(Path(name).resolve())  # the pictures show no path of this machine
        command = [sys.executable, "-m", "calibrae", "app", "runs", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=os.environ | {"CALIBRAE_REPORT": "0"})  # noqa: S603  # fmt: skip
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            _train(browser.new_page(**WIDE), found.group(), f"data/{place.name}", epochs)
            _explore(browser.new_page(**WIDE, **DARK), found.group())
            _map(browser.new_page(**WIDE), found.group())
            _table(browser.new_page(**WIDE), found.group(), f"data/{rows.name}")
        finally:
            browser.close()
            server.terminate()
            server.wait()


def _open(page: Any, address: str) -> None:
    page.set_default_timeout(60_000 * MINUTES)
    page.goto(address)
    page.wait_for_function(
        "document.querySelector('#train-command textarea')?.value.startsWith('calibrae')"
    )  # it is ready


def _train(page: Any, address: str, data: str, epochs: str) -> None:
    _open(page, address)
    page.fill("#train-data input", data)
    page.keyboard.press("Enter")
    for name, latents in (("ten", "10"), ("thirty", "30")):
        page.fill("#train-name textarea, #train-name input", name)
        page.fill("#train-epochs textarea, #train-epochs input", epochs)
        page.fill("#train-latent_dim textarea, #train-latent_dim input", latents)
        page.wait_for_function(
            f"document.querySelector('#train-command textarea').value.includes('--latent-dim {latents}')"
        )
        page.click("#train-go")
        page.wait_for_selector(f"#train-table >> text={name}")
    page.wait_for_selector("#train-rebuilt img")
    page.wait_for_function("/epoch [3-9]/.test(document.querySelector('#train-progress').innerText)")
    page.wait_for_timeout(4000)
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=IMAGES / "app-train.png")
    page.wait_for_function(
        "[...document.querySelectorAll('#train-table td')].filter((cell) => cell.innerText === 'done').length === 2"
    )


def _explore(page: Any, address: str) -> None:
    _open(page, address)
    page.click("role=tab[name=Explore]")
    page.wait_for_selector("#explore-about >> text=sigma")
    page.click("role=tab[name=Traverse]")
    page.click("#walk-go")
    page.wait_for_selector("#walk-point img")
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "app-traverse.png")


def _map(page: Any, address: str) -> None:
    _open(page, address)
    page.click("role=tab[name=Explore]")
    page.wait_for_selector("#explore-about >> text=sigma")
    page.click("role=tab[name=Map]")
    page.click("#map-method input")
    page.get_by_role("option", name="t-sne", exact=True).click()
    page.click("#map-go")
    page.wait_for_selector("#map-image img")
    page.locator("#map-image img").click(position={"x": 330, "y": 230})
    page.wait_for_selector("#map-one img")
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "app-map.png")


def _table(page: Any, address: str, data: str) -> None:
    _open(page, address)
    page.fill("#train-data input", data)
    page.keyboard.press("Enter")
    page.fill("#train-name textarea, #train-name input", "rows")
    page.wait_for_function("document.querySelector('#train-command textarea').value.includes('/rows')")
    page.click("#train-go")
    page.wait_for_selector("#train-progress >> text=rows:")
    page.wait_for_selector("#train-progress >> text=finished")
    page.click("role=tab[name=Tables]")
    page.get_by_label("Run", exact=True).locator("visible=true").first.click()
    page.get_by_role("option", name="rows", exact=True).click()
    page.click("#tables-draw")
    page.wait_for_selector("#tables-rows table")
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / "app-tables.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
