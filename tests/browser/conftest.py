"""Debian's Chromium, through Playwright."""

import os
import shutil

import pytest

CHROMIUM = os.environ.get("CALIBRAE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        if os.environ.get("CALIBRAE_REQUIRE_BROWSER"):
            pytest.fail("there is no Chromium, which CALIBRAE_REQUIRE_BROWSER asks for")
        pytest.skip("needs Chromium (Debian's package) on the path, or its place in CALIBRAE_CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield opened
        opened.close()
