"""How long a report takes to be made, and a report and the workbench to be seen, in Debian's Chromium.

    python benchmarks/pages.py path/to/mnist [--repeats 5]

Trains MNIST for one epoch, writes its report as often as asked, then opens the report and the workbench of the folder, each in a new browser with an empty
cache. Printed are medians and all measurements: seconds of `calibrae report`, and milliseconds to the first contentful paint.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright

RESULTS = Path(__file__).parent / "results"
PAINT = "() => performance.getEntriesByName('first-contentful-paint').map(entry => entry.startTime)[0]"


def command(*words: str) -> list[str]:
    """The command line of the package that is imported here."""
    return [sys.executable, "-m", "calibrae", *words]


def made(run: Path, repeats: int) -> list[float]:
    """Seconds that each report takes."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command("report", str(run), "--out", str(run / "again.html")), check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return seconds


def painted(address: str, repeats: int) -> list[float]:
    """Milliseconds from the request of a page to its first contentful paint, each in a new browser."""
    found = []
    with sync_playwright() as playwright:
        for _ in range(repeats):
            path = shutil.which("chromium") or os.environ["CALIBRAE_CHROMIUM"]
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            page.goto(address)
            page.wait_for_function(f"({PAINT})() > 0")
            found.append(float(page.evaluate(PAINT)))
            browser.close()
    return found


def workbench(folder: Path, repeats: int) -> list[float]:
    """Paints of the workbench of a folder."""
    with subprocess.Popen(
        command("app", str(folder), "--port", "0"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        try:
            address = next(m.group() for line in server.stdout if (m := re.search(r"http://\S+", line)))
            return painted(address, repeats)
        finally:
            server.terminate()


def told(name: str, values: Sequence[float], unit: str) -> dict[str, Any]:
    """Print a median and keep all."""
    print(f"{name:<28}{median(values):>8.1f} {unit}   ({', '.join(f'{value:.1f}' for value in values)})")
    return {"median": median(values), "all": list(values), "unit": unit}


def main() -> None:
    """Train, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder with MNIST")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "mnist"
        subprocess.run(
            command("train", asked.data, "--out", str(run), "--epochs", "1"), check=True, capture_output=True
        )
        record = {
            "report made": told("report of MNIST, made", made(run, asked.repeats), "s"),
            "report painted": told("report, first paint", painted((run / "report.html").as_uri(), asked.repeats), "ms"),
            "workbench painted": told("workbench, first paint", workbench(run.parent, asked.repeats), "ms"),
            "size": (run / "report.html").stat().st_size,
            "date": date.today().isoformat(),
        }
    (RESULTS / "pages.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
