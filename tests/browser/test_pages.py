"""Reports in a real browser: Debian's Chromium, through Playwright."""

from __future__ import annotations

import numpy as np
import pytest

import calibrae as cb

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    images = np.random.default_rng(0).integers(0, 256, (200, 3, 12, 12), dtype=np.uint8)
    labels = np.random.default_rng(1).integers(0, 3, 200)
    model = cb.build("sigma-vae", data_shape=(3, 12, 12), latent_dim=4, network="mlp", context_dim=3)
    how = {"quiet": True, "pictures": False}
    cb.fit(model, images, folder / "pictures", epochs=3, condition=labels, **how)
    cb.fit(
        cb.build("sigma-vae", data_shape=(4,), latent_dim=2),
        np.random.default_rng(0).normal(size=(200, 4)),
        folder / "table",
        epochs=2,
        **how,
    )
    cb.fit(cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2), "digits", folder / "a", epochs=1, **how)
    cb.fit(cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=3), "digits", folder / "b", epochs=1, **how)
    found = {name: cb.report(folder / name) for name in ("pictures", "table")}
    return found | {"comparison": cb.compare([folder / "a", folder / "b"])}


@pytest.fixture(params=["pictures", "table", "comparison"])
def place(request, places):
    return places[request.param]


@pytest.fixture
def opened(browser, place):
    """Opens the page in some way, and fails if it asks for anything else or complains."""
    pages = []

    def open_page(**how):
        page, troubles = browser.new_page(**how), []
        page.on(
            "console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda request: (
                troubles.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None
            ),
        )
        page.goto(f"file://{place}")
        pages.append((page, troubles))
        return page

    yield open_page
    for page, troubles in pages:
        assert troubles == []
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_accessible(opened, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened(color_scheme=scheme)
    page.wait_for_timeout(1500)
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_a_page_fits_its_window(opened, width):
    page = opened(viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_a_page_is_whole_without_scripts_and_plots_answer_with_them(opened, place):
    plain = opened(java_script_enabled=False)
    pictures = plain.locator("img")
    assert pictures.count() >= 2
    assert all(pictures.nth(i).is_visible() for i in range(pictures.count()))
    if place.name == "comparison.html":
        return
    live = opened()
    live.wait_for_selector("div.js-plotly-plot .main-svg", timeout=20_000)
    plots = live.locator("div.js-plotly-plot")
    assert plots.count() == live.locator("script.plot").count() > 0
    assert live.locator("figure:has(div.js-plotly-plot) img:visible").count() == 0


def test_the_keyboard_reaches_the_content(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_url("**#content")


def test_a_page_can_be_printed(opened):
    page = opened()
    assert len(page.pdf(format="A4")) > 10_000
