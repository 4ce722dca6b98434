"""The workbench in a real browser, as people use it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from pets import table

import calibrae as cb

pytestmark = pytest.mark.slow
SECONDS = 90.0
GRADIOS_OWN = "Method not implemented."  # its warning whenever a file has been sent
TABS = ("Train", "Explore", "Compare", "Score", "Tables", "Betas", "Audit", "Manage")


class Server:
    """`calibrae app` in a process of its own."""

    def __init__(self, folder, *options):
        self.folder, self.options, self.port = folder, options, "0"
        self.start()

    def start(self):
        """Start it, at its port from then on."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "calibrae", "app", str(self.folder), "--port", self.port, *self.options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "CALIBRAE_PICTURES": "1"},
        )  # fmt: skip
        line = self.process.stdout.readline()
        self.address = re.search(r"http://\S+", line).group()
        self.port = re.search(r":(\d+)/", self.address).group(1)

    def end(self, how=signal.SIGINT):
        """End it; what it printed beside its address."""
        self.process.send_signal(how)
        printed, _ = self.process.communicate(timeout=30)
        return printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("bench") / "runs"
    how = {"quiet": True, "pictures": False, "epochs": 2}
    for d in (2, 3):
        cb.fit(
            cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=d, network="linear"),
            "digits",
            place / f"d{d}",
            **how,
        )
    rows = np.random.default_rng(0).normal(size=(200, 4))
    cb.fit(cb.build("sigma-vae", data_shape=(4,), latent_dim=2, network="linear"), rows, place / "table", **how)
    images = np.random.default_rng(0).integers(0, 256, (200, 3, 12, 12), dtype=np.uint8)
    pets = cb.load_data(table(300))
    cb.fit(cb.build(spec=pets.spec, latent_dim=2, options=cb.NetworkOptions(hidden=(8,))), pets, place / "pets", **how)
    model = cb.build("sigma-vae", data_shape=(3, 12, 12), latent_dim=2, network="linear", context_dim=3)
    cb.fit(model, images, place / "conditional", condition=np.arange(200) % 3, **how)
    return place


@pytest.fixture(scope="module")
def server(folder):
    started = Server(folder, "--allow-audit")
    yield started
    printed = started.end()
    assert "Traceback" not in printed, printed
    assert started.process.returncode == 0


@pytest.fixture
def opened(browser, server):
    """Opens the workbench; fails if it asks for anything from elsewhere, or complains."""
    pages = []

    def open_page(address=None, allowed=(), **how):
        page, troubles = browser.new_page(viewport={"width": 1300, "height": 1000}, **how), []
        page.set_default_timeout(1000 * SECONDS)
        is_trouble = lambda text: not any(word in text for word in (*allowed, GRADIOS_OWN))  # noqa: E731
        page.on(
            "console",
            lambda m: troubles.append(m.text) if m.type in ("error", "warning") and is_trouble(m.text) else None,
        )
        page.on("pageerror", lambda error: troubles.append(str(error)) if is_trouble(str(error)) else None)
        page.on(
            "request",
            lambda r: None if "127.0.0.1" in r.url or r.url.startswith(("data:", "blob:")) else troubles.append(r.url),
        )
        page.goto(address or server.address)
        page.wait_for_function("document.querySelector('#train-command textarea')?.value.startsWith('calibrae')")
        pages.append((page, troubles))
        return page

    yield open_page
    for page, troubles in pages:
        assert troubles == []
        page.close()


def go_to(page, *tabs):
    for tab in tabs:
        page.click(f"role=tab[name={tab}]")
        page.wait_for_selector(f"role=tab[name={tab}][selected=true]")


def fill(page, place, text):
    page.fill(f"{place} input, {place} textarea", text)


def choose(page, place, text):
    """Choose from a list by typing."""
    box = page.locator(f"{place} input, label:has-text('{place}') input").first
    box.click()
    box.fill(text)
    page.keyboard.press("Enter")


def run_is(page, name):
    """Choose a run of the page Explore."""
    box = page.get_by_label("Run", exact=True).locator("visible=true").first
    box.click()
    page.get_by_role("option", name=name, exact=True).click()


def picture(page, place, after=None):
    """Address of a picture that shows, another one than before."""
    page.wait_for_function(
        "([place, after]) => { const found = document.querySelector(place + ' img'); return found && found.complete && found.src !== after }",
        arg=[place, after],
    )
    return page.locator(f"{place} img").get_attribute("src")


def toast(page):
    """Words of a message."""
    page.wait_for_selector(".toast-body")
    return page.inner_text(".toast-body")


def epochs_seen(page):
    found = re.search(r"epoch (\d+) of", page.inner_text("#train-progress"))
    return int(found.group(1)) if found else 0


def wait_until(condition, seconds=SECONDS):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError("it did not come about in time")


def train(page, name, epochs, latents="3"):
    fill(page, "#train-name", name)
    fill(page, "#train-epochs", str(epochs))
    fill(page, "#train-latent_dim", latents)
    wait_until(
        lambda: page.input_value("#train-command textarea").endswith(
            f"/{name} --latent-dim {latents} --epochs {epochs}"
        )
    )
    command = page.input_value("#train-command textarea")
    page.click("#train-go")
    page.wait_for_selector(f"#train-progress >> text={name}:")
    return command


def test_a_training_is_watched_to_its_end(opened, server):
    page = opened()
    page.click("text=Look at the data")
    page.wait_for_selector("text=read as 17 levels")
    picture(page, "#train-preview")
    command = train(page, "watched", 40)
    assert command == f"calibrae train digits --out {server.folder}/watched --latent-dim 3 --epochs 40"
    seen = set()

    def is_over():
        seen.add(epochs_seen(page))
        return "finished" in page.inner_text("#train-progress")

    wait_until(is_over, 180)
    assert max(seen) == 40
    assert len(seen - {0}) >= 2  # it moved
    picture(page, "#train-rebuilt")
    assert page.locator("#train-curves .main-svg").count() >= 1
    page.wait_for_selector("#train-table >> text=done")
    assert (server.folder / "watched" / "samples.png").exists()


def test_a_run_is_explored(opened):
    page = opened()
    go_to(page, "Explore")
    run_is(page, "d3")
    page.wait_for_selector("#explore-about >> text=fixed on the training set")
    page.click("#reconstruct-go")
    picture(page, "#reconstruct-image")
    go_to(page, "Sample")
    page.click("#sample-go")
    first = picture(page, "#sample-image")
    page.get_by_label("Seed").locator("visible=true").first.fill("1")
    page.click("#sample-go")
    second = picture(page, "#sample-image", after=first)
    assert first != second
    go_to(page, "Interpolate")
    fill(page, "#interpolate-between", "0,1,2,3")
    page.click("#interpolate-go")
    picture(page, "#interpolate-image")


def test_latents_are_walked_and_moved_by_hand(opened):
    page = opened()
    go_to(page, "Explore")
    run_is(page, "d3")
    go_to(page, "Traverse")
    page.click("#walk-go")
    picture(page, "#walk-image")
    before = picture(page, "#walk-point")
    slider = page.locator("#walk-slider-0 input[type=range]")
    slider.focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    picture(page, "#walk-point", after=before)
    assert page.locator("#walk-slider-3").count() == 0 or not page.locator("#walk-slider-3").is_visible()


def test_a_click_on_the_map_shows_the_example(opened):
    page = opened()
    go_to(page, "Explore")
    run_is(page, "d2")
    go_to(page, "Map")
    page.click("#map-go")
    picture(page, "#map-image")
    page.locator("#map-image img").click(position={"x": 220, "y": 200})
    picture(page, "#map-one")
    assert page.input_value("#map-example input").isdigit()


@pytest.mark.parametrize("run", ["table", "conditional"])
def test_other_runs_are_explored_too(opened, run):
    page = opened()
    go_to(page, "Explore")
    run_is(page, run)
    for tab in ("Reconstruct", "Sample", "Interpolate"):
        go_to(page, tab)
        page.click(f"#{tab.lower()}-go")
        picture(page, f"#{tab.lower()}-image")
    go_to(page, "Traverse")
    page.click("#walk-go")
    picture(page, "#walk-image")
    go_to(page, "Map")
    page.click("#map-go")
    picture(page, "#map-image")


def test_runs_are_compared_and_one_is_reported_on(opened):
    page = opened()
    go_to(page, "Compare")
    page.wait_for_selector("#compare-table >> text=d3")
    box = page.get_by_label("Runs to compare; one for its report")
    for name in ("d2", "d3"):
        box.click()
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")
    page.click("#compare-curves-go")
    picture(page, "#compare-curves")
    page.click("#compare-go")
    frame = page.frame_locator("#compare-page iframe")
    frame.locator("text=Paired differences").first.wait_for()


def test_a_file_is_scored(opened, tmp_path):
    np.save(tmp_path / "new.npy", np.random.default_rng(0).integers(0, 17, (20, 1, 8, 8)).astype(np.uint8))
    page = opened()
    go_to(page, "Score")
    run_is(page, "d3")
    page.set_input_files("#score-files input[type=file]", str(tmp_path / "new.npy"))
    page.wait_for_selector("#score-files .file-preview >> text=new")
    page.click("#score-go")
    page.wait_for_selector("#score-about >> text=20 examples, mean")
    picture(page, "#score-image")
    assert "less its length" not in page.inner_text("main")
    page.check("#score-less input[type=checkbox]")
    page.click("#score-go")
    page.wait_for_selector("table.plain >> text=less its length")


def test_a_mixed_table_is_drawn_filled_and_watched(opened, tmp_path):
    new = table(20, seed=4)
    new.loc[3, "height"] = 9000.0
    new.to_csv(tmp_path / "new.csv", index=False)
    page = opened()
    go_to(page, "Tables")
    run_is(page, "pets")
    fill(page, "#tables-count", "40")
    fill(page, "#tables-given", "kind=dog")
    page.click("#tables-draw")
    page.wait_for_selector("#tables-drawn >> text=40 rows of p(x | kind = dog)")
    picture(page, "#tables-image")
    shown = page.locator("#tables-rows tbody tr").all_inner_texts()
    assert len(shown) == 20
    assert all("dog" in row for row in shown)
    page.set_input_files("#tables-files input[type=file]", str(tmp_path / "new.csv"))
    page.wait_for_selector("#tables-files .file-preview >> text=new")
    page.click("#tables-fill")
    page.wait_for_selector("#tables-about >> text=cells filled")
    page.fill("#tables-rate input", "0.1")
    page.click("#tables-watch")
    page.wait_for_selector("#tables-found >> text=Rows that raise the alarm")
    assert "height" in page.inner_text("#tables-found")
    assert "all 20 examples of new.csv" in page.inner_text("#tables-about")
    go_to(page, "Explore", "Traverse")
    run_is(page, "pets")
    page.click("#walk-go")
    picture(page, "#walk-image")
    picture(page, "#walk-point")


def test_a_beta_is_translated_as_it_is_typed(opened):
    page = opened()
    go_to(page, "Betas")
    page.wait_for_selector("#beta-answer >> text=sigma 1.239")
    fill(page, "#beta-value", "0.5")
    page.wait_for_selector("#beta-answer >> text=squared error of 6144")
    fill(page, "#beta-value", "much")
    page.wait_for_selector("#beta-answer >> text=must be a number")


def test_a_loss_is_audited_in_a_process_with_limits(opened, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\ndef loss(x, x_hat, mu, logvar):\n"
        "    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()\n"
        "    return ((x - x_hat) ** 2).mean() + 0.00025 * kl\n"
    )
    page = opened()
    go_to(page, "Audit")
    inputs = page.locator("#audit-file input[type=file]")
    inputs.set_input_files(str(tmp_path / "mine.py"))
    page.wait_for_selector("#audit-file .file-preview >> text=mine")
    page.click("#audit-go")
    page.wait_for_function("document.querySelector('#audit-answer textarea').value.includes('rho')")


def test_a_broken_picture_is_a_message(opened, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    page = opened()
    go_to(page, "Explore")
    run_is(page, "d3")
    page.set_input_files("#reconstruct-files input[type=file]", str(tmp_path / "broken.png"))
    page.wait_for_selector("#reconstruct-files .file-preview >> text=broken")
    page.click("#reconstruct-go")
    said = toast(page)
    assert "broken.png" in said
    assert "Traceback" not in said
    go_to(page, "Sample")
    page.click("#sample-go")
    picture(page, "#sample-image")


def test_what_cannot_be_is_a_message(opened):
    page = opened()
    fill(page, "#train-name", "../../evil")
    page.click("#train-go")
    assert "a name must be" in toast(page)
    fill(page, "#train-name", "fine")
    fill(page, "#train-latent_dim", "many")
    page.wait_for_function("document.querySelector('#train-command textarea').value.includes('must be a whole number')")
    fill(page, "#train-latent_dim", "3")
    page.click("text=More")
    fill(page, "#train-hidden", "wide")
    page.wait_for_function("document.querySelector('#train-command textarea').value.includes('--hidden wide')")
    page.click("#train-go")
    page.wait_for_selector("#train-table >> text=not possible: see the log")
    page.click("text=Log")
    page.wait_for_function("[...document.querySelectorAll('textarea')].some((t) => t.value.includes('--hidden'))")


@pytest.mark.whole
def test_a_training_survives_reloads_and_the_end_of_the_server(opened, server):
    page = opened(
        allowed=(
            "Failed to fetch",
            "Connection",
            "Failed to load resource",
            "connection",
            "ERR_",
            "fetch",
            "WebSocket",
            "EventSource",
            "network error",  # of an answer that the end of the server has cut
        )
    )
    train(page, "survivor", 400)
    wait_until(lambda: epochs_seen(page) > 0, 120)
    page.reload()
    page.wait_for_selector("#train-go")
    wait_until(lambda: epochs_seen(page) > 0)
    server.end(signal.SIGKILL)
    before = len((server.folder / "survivor" / "history.csv").read_text().splitlines())
    wait_until(lambda: len((server.folder / "survivor" / "history.csv").read_text().splitlines()) > before)
    server.start()
    page.goto(server.address)
    page.wait_for_selector("#train-go")
    page.wait_for_selector("#train-table >> text=survivor")
    wait_until(lambda: epochs_seen(page) > before - 1)
    page.click("#train-stop")
    wait_until(lambda: "stopped after epoch" in page.inner_text("#train-progress"))
    epochs = epochs_seen(page)
    fill(page, "#train-more", str(epochs + 2))
    page.click("#train-resume")
    wait_until(lambda: "finished" in page.inner_text("#train-progress"), 120)
    assert epochs_seen(page) == epochs + 2


def test_two_people_do_not_disturb_each_other(opened):
    one, other = opened(), opened()
    for page, run in ((one, "d2"), (other, "d3")):
        go_to(page, "Explore")
        run_is(page, run)
    for page, run in ((one, "d2"), (other, "d3"), (one, "d2")):
        page.wait_for_selector(f"#explore-about >> text={run}")
        go_to(page, "Traverse")
        page.click("#walk-go")
    for page, count in ((one, 2), (other, 3)):
        picture(page, "#walk-image")
        wait_until(lambda page=page, count=count: page.locator("[id^=walk-slider-]:visible").count() == count)


def test_the_keyboard_is_enough(opened):
    page = opened()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText || ''").strip() == "Explore":
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#reconstruct-go", state="visible")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "reconstruct-go":
            break
    page.keyboard.press("Enter")
    picture(page, "#reconstruct-image")


def test_a_run_is_renamed_and_moved_to_the_bin(opened, server):
    model = cb.build("vae", data_shape=(1, 8, 8), latent_dim=2, network="linear")
    cb.fit(model, "digits", server.folder / "spare", epochs=1, quiet=True, pictures=False)
    page = opened()
    go_to(page, "Manage")
    run_is(page, "spare")
    fill(page, "#manage-name", "other")
    page.click("#manage-rename")
    page.wait_for_selector("#manage-said >> text=spare is now other")
    page.click("#manage-remove")
    assert "type its name" in toast(page)
    fill(page, "#manage-sure", "other")
    page.click("#manage-remove")
    page.wait_for_selector("#manage-said >> text=is in the bin")
    assert not (server.folder / "other").exists()
    assert any((server.folder / ".bin").glob("other-*"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(opened, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened(color_scheme=scheme)
    for tab in TABS:
        go_to(page, tab)
        page.wait_for_timeout(1500)
        if tab == "Train":
            page.wait_for_selector("#train-curves .main-svg >> nth=0")  # until it is drawn, Gradio shows a placeholder
        found = axe.Axe().run(page)
        assert found.violations_count == 0, (tab, found.generate_report())


@pytest.mark.parametrize("width", [400, 800])
def test_it_fits_a_small_window(opened, width):
    page = opened()
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def status(address, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    "path",
    ["gradio_api/file=/etc/passwd", "gradio_api/file={runs}/d2/run.json", "file={runs}/d2/run.json", "pages/..%2f..%2fd2%2frun.json",
     "pages/../d2/run.json", "static/..%2f..%2f..%2fetc%2fpasswd", "gradio_api/file=../../etc/passwd"],
)  # fmt: skip
def test_no_file_of_the_machine_is_handed_out(server, path):
    code, content = status(server.address + path.format(runs=server.folder))
    assert code in (400, 403, 404)
    assert b"root:" not in content
    assert b"fingerprint" not in content


def test_other_names_and_pages_are_refused(server):
    assert status(server.address, Host="evil.example")[0] == 421
    assert status(server.address, Origin="http://evil.example")[0] == 403


def test_beyond_the_machine_it_asks_for_a_token_and_audits_nothing(tmp_path, browser):
    server = Server(tmp_path, "--host", "0.0.0.0")
    try:
        token = re.search(r"token=(\S+)", server.address).group(1)
        plain = f"http://127.0.0.1:{server.port}/"
        assert status(plain)[0] == 401
        assert status(f"{plain}config")[0] == 401
        page = browser.new_page()
        page.goto(f"{plain}?token={token}")
        page.wait_for_selector("#train-go")
        fill(page, "#train-data", "/etc")
        page.click("text=Look at the data")
        assert "as others can reach this workbench" in toast(page)
        go_to(page, "Audit")
        page.wait_for_selector("#audit-off")
        page.close()
    finally:
        server.end()


def test_a_second_server_of_a_folder_and_a_port_that_is_taken_are_refused(server, folder, tmp_path):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "calibrae", "app", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    second = call(str(folder), "--port", "0")
    assert (second.returncode, "another workbench serves" in second.stderr) == (2, True)
    taken = call(str(tmp_path), "--port", server.port)
    assert (taken.returncode, "cannot be listened on" in taken.stderr) == (2, True)
    assert taken.stderr.count("\n") == 1
