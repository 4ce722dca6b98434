"""What a training step costs as the batch, the network, the pictures and the data grow, and how much memory the data take.

    python benchmarks/scaling.py [--repeats 3] [--gigabytes 1 4 20]

The default network and settings, float32, not compiled, on random pictures: the cost does not depend on what they show. Settings of an axis take
turns; medians are kept. Memory is the peak of a process that passes once over a mapped file in random order (`calibrae` reads it as in training), beyond
what the process had before; the file is sparse, so no disk is filled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from throughput.machine import peak

import calibrae as cb

RESULTS = Path(__file__).parent / "results"
USUAL: dict[str, int] = {"batch_size": 64, "width": 48, "size": 32, "count": 0}
AXES = {
    "batch_size": [16, 32, 64, 128, 256],
    "width": [16, 32, 48, 64, 96],
    "size": [16, 32, 64, 128],
    "count": [1024, 4096, 16384],
}
LABELS = {
    "batch_size": "batch size", "width": "width of the network", "size": "side of a picture, pixels", "count": "training examples",
}  # fmt: skip
PIXELS = 2048 * 32 * 32  # that one timing trains on
PASS = """
import json, sys, time
import numpy as np, torch
from calibrae.data import byte_source, in_batches, load_data
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
data = load_data(sys.argv[1])
order = np.random.default_rng(0).permutation(len(data.view("train")))
started = time.perf_counter()
rows = sum(len(x) for x, _, _ in data.stored_batches(in_batches(order, 128), torch.Generator().manual_seed(0), byte_source(0)))
seconds = time.perf_counter() - started
print(json.dumps({"rows": rows, "seconds": seconds, "kibibytes": peak() - before}))
"""


def seconds_an_image(batch_size: int, width: int, size: int, count: int) -> float:
    """Of training, by the trainer's own clock."""
    count = count or max(2 * batch_size, PIXELS // size**2) // batch_size * batch_size
    images = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    few = images[: 2 * batch_size]
    options = cb.NetworkOptions(width=width)
    model = cb.build("sigma-vae", data_shape=(3, size, size), latent_dim=50, network="conv", options=options)
    with tempfile.TemporaryDirectory() as folder:
        run = cb.fit(
            model, {"train": images, "validation": few, "test": few}, Path(folder) / "run", epochs=1, quiet=True, pictures=False,
            batch_size=batch_size, compile="off", precision="fp32",
        )  # fmt: skip
        return run.history[-1]["seconds"] / count


def measured(axis: str, repeats: int) -> dict[int, float]:
    """Median milliseconds an image at each value of an axis, the others as usual."""
    found: dict[int, list[float]] = {value: [] for value in AXES[axis]}
    for _ in range(repeats):
        for value, seconds in found.items():
            seconds.append(1e3 * seconds_an_image(**{**USUAL, axis: value}))
    return {value: statistics.median(seconds) for value, seconds in found.items()}


def memory(gigabytes: float) -> dict[str, Any]:
    """Of one pass over a mapped file of so many gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.npy"
        rows = int(gigabytes * 1e9) // 12288
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(rows, 3, 64, 64)).flush()
        out = subprocess.run([sys.executable, "-c", PASS, str(path)], capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(out)
    return {
        "gigabytes": gigabytes,
        "rows": rows,
        "megabytes_of_memory": found["kibibytes"] / 1024,
        "seconds": found["seconds"],
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """A panel for each axis, on logarithmic scales, and one for memory."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, NullLocator

    figure = Figure(figsize=(11.0, 5.6), dpi=130, layout="constrained")
    panels = figure.subplots(2, 3).flatten()
    for panel, (axis, values) in zip(panels, record["milliseconds_an_image"].items(), strict=False):
        xs = [int(value) for value in values]
        panel.plot(xs, list(values.values()), marker="o", color="#1f5fa8")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(xs, [str(x) for x in xs])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_ylim(0.1, 20.0)
        panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.set_xlabel(LABELS[axis], fontsize=9)
        panel.set_title("milliseconds an image", fontsize=9)
    sizes = [row["gigabytes"] for row in record["memory"]]
    panels[4].plot(sizes, [row["megabytes_of_memory"] for row in record["memory"]], marker="o", color="#1f5fa8")
    panels[4].axhline(1500, color="#d9662b", linestyle="--", linewidth=1.0)
    panels[4].set_ylim(0, 1600)
    panels[4].set_title("peak memory of a pass, MB (bar: 1.5 GB)", fontsize=9)
    times = [1e6 * row["seconds"] / row["rows"] for row in record["memory"]]
    panels[5].plot(sizes, times, marker="o", color="#1f5fa8")
    panels[5].set_ylim(0, 1.1 * max(times))
    panels[5].set_title("microseconds to read an example of 12 kB", fontsize=9)
    for panel in panels[4:]:
        panel.set_xticks(sizes)
        panel.set_xlabel("data, GB", fontsize=9)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.tick_params(labelsize=8, which="both")
    figure.savefig(path)


def main() -> None:
    """Measure, print, keep and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1.0, 4.0, 20.0])
    arguments = parser.parse_args()
    record: dict[str, Any] = {
        "date": date.today().isoformat(), "torch": torch.__version__, "threads": torch.get_num_threads(), "peak_gflops": peak(),
        "milliseconds_an_image": {}, "memory": [],
    }  # fmt: skip
    for axis in AXES:
        record["milliseconds_an_image"][axis] = found = measured(axis, arguments.repeats)
        print(
            f"{LABELS[axis]}: " + ", ".join(f"{value}: {ms:.2f} ms an image" for value, ms in found.items()), flush=True
        )
    for gigabytes in arguments.gigabytes:
        record["memory"].append(row := memory(gigabytes))
        rate = row["rows"] / row["seconds"]
        print(
            f"{gigabytes:g} GB: {row['megabytes_of_memory']:.0f} MB of memory, {rate:,.0f} examples of 12 kB a second",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    draw(record, RESULTS / "scaling.png")


if __name__ == "__main__":
    main()
