"""Images a second of one process with one or two threads, and of two processes with one thread each.

    python benchmarks/processes.py path/to/mnist

The runs take turns; each trains the default network for one epoch after one that warms up, with plain steps.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import calibrae as cb

KINDS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes": (2, 1)}
TURNS = 3


def train(place: str, out: str, batch_size: int) -> None:
    """Train two epochs, and write the seconds of the second."""
    data = cb.load_data(place)
    model = cb.build("sigma-vae", data_shape=data.spec.data_shape, latent_dim=16)
    settings = {"epochs": 2, "batch_size": batch_size, "precision": "fp32", "compile": "off", "keep": 1}
    run = cb.fit(model, data, f"{out}-run", quiet=True, pictures=False, **settings)
    first, second = (row["seconds"] for row in run.history)
    if os.environ.get("RANK", "0") == "0":
        Path(out).write_text(json.dumps(len(data.view("train")) / (second - first)))


def main() -> None:
    """Print the medians."""
    place = sys.argv[1]
    for batch_size in (64, 512):
        found: dict[str, list[float]] = {name: [] for name in KINDS}
        for _ in range(TURNS):
            for name, (processes, threads) in KINDS.items():
                with tempfile.TemporaryDirectory() as folder:
                    out = f"{folder}/found"
                    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
                    command = [
                        sys.executable,
                        *(launcher if processes > 1 else []),
                        __file__,
                        place,
                        out,
                        str(batch_size),
                    ]
                    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
                    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
                    found[name].append(json.loads(Path(out).read_text()))
        rates = {name: statistics.median(values) for name, values in found.items()}
        print(
            f"batch size {batch_size}: "
            + ", ".join(f"{name} {rate:,.0f} images a second" for name, rate in rates.items())
        )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        train(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main()
