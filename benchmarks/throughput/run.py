"""Images a second of training, ours beside others', in one process tree.

    python benchmarks/throughput/run.py conv path/to/cifar10 [--rivals .venv-bench/bin/python] [--repeats 5]
    python benchmarks/throughput/run.py mlp path/to/mnist

Every contender trains the same modules on the same images with the same batch size. All are set up and warmed up first; then they take
turns, A B C A B C, one pass each, so that a busy machine hurts all alike. The table shows medians and quartiles; the ratios are of
medians. Pythae and Lightning live in an environment of their own (`make bench` sets it up); without it they are left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import name_of, peak
from torch.utils.flop_counter import FlopCounterMode

from calibrae.acceleration._precision import MIN_GAIN  # from where on `--precision auto` takes bf16
from calibrae.data import load_data
from networks import LATENTS, SHAPES, PlainVAE

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
IMAGES = {"cpu": {"conv": 2560, "mlp": 25_600}, "cuda": {"conv": 40_960, "mlp": 51_200}}  # of a pass
OURS, RIVALS = ("calibrae", "bare", "examples"), ("pythae", "lightning")


class Worker:
    """A contender in a process of its own."""

    def __init__(self, name: str, python: str, network: str, images: Path, batch: int, options: list[str]) -> None:
        self.name = name
        command = [python, str(HERE / "worker.py"), name, network, str(images), str(batch), *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.facts = self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} did not start; run its worker.py by hand to see why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def one_pass(self) -> float:
        """Seconds of one pass."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def gigaflops(network: str) -> float:
    """Operations of one image, forward and backward."""
    model, n = PlainVAE(network), 8
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(n, *SHAPES[network]), torch.randn(n, LATENTS[network])).backward()
    return float(counter.get_total_flops()) / n / 1e9


def measure(arguments: argparse.Namespace, images: Path) -> dict[str, list[float]]:
    """Images a second of each pass of each contender."""
    device = f"device={arguments.device}"
    options = [device, f"precision={arguments.precision}", f"compile={arguments.compile}"]
    workers = [Worker(n, sys.executable, arguments.network, images, arguments.batch_size, options) for n in OURS]
    if arguments.rivals:
        workers += [
            Worker(n, arguments.rivals, arguments.network, images, arguments.batch_size, [device]) for n in RIVALS
        ]
    count = len(np.load(images, mmap_mode="r"))
    rates: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for repeat in range(arguments.repeats):
        for worker in workers:
            rates[worker.name].append(count / worker.one_pass())
        print(
            f"repeat {repeat + 1}/{arguments.repeats}: " + ", ".join(f"{n} {r[-1]:,.0f}" for n, r in rates.items()),
            file=sys.stderr,
        )
    for worker in workers:
        worker.close()
    return rates


def report(arguments: argparse.Namespace, rates: dict[str, list[float]]) -> dict[str, Any]:
    """The record of a run, and its table on standard output."""
    device, dtype = torch.device(arguments.device), {"fp32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
    each, best = gigaflops(arguments.network), peak(dtype, device)
    ours = statistics.median(rates["calibrae"])
    rows = {}
    print(
        f"{arguments.network}, batch {arguments.batch_size}, {each:.3f} GFLOP an image; matrix products {best:.0f} GFLOP/s in {arguments.precision}"
    )
    print(f"{'':<12}{'images/s':>10}{'quartiles':>18}{'GFLOP/s':>10}{'of peak':>9}{'calibrae is':>13}")
    for name, values in rates.items():
        middle = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4)
        rows[name] = {"images_per_second": middle, "quartiles": [low, high], "passes": values, "ratio": ours / middle}
        span = f"{low:,.0f} to {high:,.0f}"
        print(
            f"{name:<12}{middle:>10,.0f}{span:>18}{middle * each:>10.0f}{middle * each / best:>9.0%}{ours / middle:>12.2f}x"
        )
    return {
        "network": arguments.network, "batch_size": arguments.batch_size, "gflop_per_image": each, "peak_gflops": best,
        "precision": arguments.precision, "compile": arguments.compile, "contenders": rows, "date": date.today().isoformat(),
        "machine": {"processor": name_of(device), "threads": torch.get_num_threads(), "capability": torch.backends.cpu.get_cpu_capability()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }  # fmt: skip


def draw(record: dict[str, Any], path: Path) -> None:
    """Bars of images a second."""
    from matplotlib.figure import Figure

    rows = record["contenders"]
    figure = Figure(figsize=(6.5, 0.5 * len(rows) + 1.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    names = list(rows)[::-1]
    values = [rows[name]["images_per_second"] for name in names]
    low = [v - rows[n]["quartiles"][0] for n, v in zip(names, values, strict=True)]
    high = [rows[n]["quartiles"][1] - v for n, v in zip(names, values, strict=True)]
    colors = ["#1f5fa8" if name == "calibrae" else "#8a8f98" for name in names]
    axes.barh(names, values, color=colors, xerr=[low, high], error_kw={"linewidth": 0.8})
    axes.set_xlabel("images a second")
    axes.set_title(f"{record['network']}, batch {record['batch_size']}, {record['machine']['processor']}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main() -> None:
    """Measure, print, keep and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=list(SHAPES))
    parser.add_argument("data")
    parser.add_argument("--rivals", default=None, help="Python of an environment with Pythae and Lightning.")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "auto"])
    parser.add_argument("--compile", default="off", choices=["on", "off"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    if arguments.precision == "auto":
        gain = peak(torch.bfloat16, torch.device(arguments.device)) / peak(
            torch.float32, torch.device(arguments.device)
        )
        arguments.precision = "bf16" if gain >= MIN_GAIN else "fp32"
    view = load_data(arguments.data).view("train")
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        count = (
            min(IMAGES[arguments.device][arguments.network], len(view)) // arguments.batch_size * arguments.batch_size
        )
        np.save(images, view.slice(0, count).numpy())
        rates = measure(arguments, images)
    record = report(arguments, rates)
    RESULTS.mkdir(exist_ok=True)
    place = "" if arguments.device == "cpu" else f"-{arguments.device}"
    name = f"throughput-{arguments.network}{place}-{arguments.precision}-compile-{arguments.compile}"
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    draw(record, RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()
