"""Steps of 1, 2 and 4 processes here, measured and simulated, and what the simulation says of a run on many cards.

python benchmarks/distributed/run.py measure
python benchmarks/distributed/run.py project
python benchmarks/distributed/run.py cut
python benchmarks/distributed/run.py readers
"""

from __future__ import annotations

import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from simulation import Machine, ring_seconds, simulate

import calibrae as cb
from calibrae.data import DataOptions, byte_source, load_data
from calibrae.runs import save_tree

HERE = Path(__file__).parent
WORKER = HERE / "worker.py"
RESULT = HERE.parent / "results" / "distributed.json"
BATCH = {"mlp": 512, "conv": 128}
TURNS = 3


def environment() -> dict[str, str]:
    """Environment of a process that has one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def together(processes: int, *words: str) -> list[Path]:
    """Run connected processes; returns what they wrote."""
    folder = Path(tempfile.mkdtemp())
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(WORKER), *words, str(folder)]
    subprocess.run(command, check=True, env=environment(), capture_output=True)
    return sorted(folder.iterdir())


def side_by_side(processes: int, *words: str) -> list[Path]:
    """Run processes that know nothing of one another at the same time; returns what they wrote."""
    folder = Path(tempfile.mkdtemp())
    command = [sys.executable, str(WORKER), *words, str(folder)]
    running = [subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) for _ in range(processes)]
    if any(process.wait() for process in running):
        raise RuntimeError("a process failed")
    return sorted(folder.iterdir())


def seconds_in(paths: list[Path]) -> list[float]:
    """All seconds that some files hold."""
    return [second for path in paths for second in json.loads(path.read_text())]


def compared(network: str) -> list[dict[str, Any]]:
    """Measured and simulated seconds of a step, in turns."""
    cores, rows = os.cpu_count() or 1, []
    for processes in (1, 2, 4):
        share = str(BATCH[network] // processes)
        measured, computing, talk = [], [], {"gradients": 0.0, "small": 0.0}
        for _ in range(TURNS):
            # what one process computes, with as many others at work as there are cores: no message is sent
            computing += seconds_in(side_by_side(min(processes, cores), "train", network, share))
            measured += [statistics.median(seconds_in(together(processes, "train", network, str(BATCH[network]))))]
        if processes > 1:
            talk = json.loads(together(processes, "messages", network)[0].read_text())
        machine = Machine(computing, max(1.0, processes / cores), talk["gradients"], talk["small"])
        simulated = float(np.median(simulate(machine, processes)))
        rows.append(
            {
                "network": network,
                "processes": processes,
                "measured_ms": 1e3 * statistics.median(measured),
                "simulated_ms": 1e3 * simulated,
                "computing_ms": 1e3 * statistics.median(computing),
                "gradients_ms": 1e3 * talk["gradients"],
                "small_ms": 1e3 * talk["small"],
                "parameters": talk.get("parameters"),
            }
        )
        print(rows[-1], flush=True)
    return rows


def whole_or_cut(processes: int = 4, width: int = 2048) -> dict[str, Any]:
    """Memory and seconds of a step of each process where all hold a large network, and where each holds a piece (FSDP)."""
    found: dict[str, Any] = {"processes": processes}
    for name, fsdp in (("whole", "off"), ("cut", "on")):
        records = [json.loads(path.read_text()) for path in together(processes, "cut", str(width), fsdp)]
        found["parameters"] = records[0]["parameters"]
        found[name] = {key: statistics.median(record[key] for record in records) for key in ("megabytes", "seconds")}
    print(found, flush=True)
    return found


def threads_or_processes(network: str) -> dict[str, float]:
    """Images a second of one process with two threads, as it comes and in plain steps, and of two processes with one each."""
    code = """
import sys, numpy as np, calibrae as cb
network, processes, acceleration, batch = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
shape = {"mlp": (1, 28, 28), "conv": (3, 32, 32)}[network]
data = np.random.default_rng(0).integers(0, 256, (40 * batch + 2000, *shape), dtype=np.uint8)
model = cb.build("sigma-vae", data_shape=shape, latent_dim=16, network=network)
options = cb.DataOptions(validation_fraction=0.01, test_fraction=0.01)
how = dict(epochs=2, precision="fp32", compile="off", batch_size=batch, options=options, quiet=True, pictures=False, threads=2 // processes)
run = cb.fit(model, data, acceleration=acceleration, **how)
import os
if os.environ.get("RANK", "0") == "0":
    rows = run.history
    print((rows[-1]["step"] - rows[0]["step"]) * batch / (rows[-1]["seconds"] - rows[0]["seconds"]))
"""
    script = Path(tempfile.mkdtemp()) / "train.py"
    script.write_text(code)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ways = {
        "two threads": ([], "1", "on"),
        "two threads, plain": ([], "1", "off"),
        "two processes": (launcher, "2", "on"),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, (before, processes, acceleration) in ways.items():
            command = [sys.executable, *before, str(script), network, processes, acceleration, str(BATCH[network])]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
            found[name].append(float(done.stdout.split()[-1]))
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    print(network, medians, flush=True)
    return medians


def read_ahead() -> dict[str, dict[str, float]]:
    """Pictures a second that readers read from a stream on the cores that are here, by their number, and that a training takes with one."""
    folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    found: dict[str, dict[str, float]] = {}
    for side, count in ((32, 20_000), (64, 10_000), (256, 1_500)):
        place = folder / str(side)
        pictures(place, side, count, rng)
        turns = [{str(n): with_readers(n, partial(rate, place)) for n in (0, 1, 2)} for _ in range(TURNS)]
        found[f"{side} x {side}"] = {n: statistics.median(turn[n] for turn in turns) for n in turns[0]}
        print(side, found[f"{side} x {side}"], flush=True)
    ways = {
        "two threads": (0, 2),
        "one thread": (0, 1),
        "one thread, one reader": (1, 1),
        "two threads, one reader": (1, 2),
    }
    turns = [
        {way: with_readers(n, partial(trained, folder / "64", k)) for way, (n, k) in ways.items()} for _ in range(TURNS)
    ]
    found["trained, 64 x 64"] = {way: statistics.median(turn[way] for turn in turns) for way in ways}
    print(found["trained, 64 x 64"], flush=True)
    return found


def with_readers(readers: int, rate_of: Callable[[], float]) -> float:
    """A rate with so many readers."""
    os.environ["CALIBRAE_READERS"] = str(readers)
    try:
        return rate_of()
    finally:
        del os.environ["CALIBRAE_READERS"]


def trained(folder: Path, threads: int) -> float:
    """Pictures a second that a small MLP is trained with, from its second epoch on."""
    data = load_data(folder, DataOptions(stream=True))
    model = cb.build(spec=data.spec, latent_dim=16, network="mlp", options=cb.NetworkOptions(hidden=(64,)), seed=0)
    run = cb.fit(model, data, epochs=3, batch_size=128, threads=threads, quiet=True, pictures=False, compile="off")
    first, *_, last = (epoch["seconds"] for epoch in run.history)
    return 2 * len(data.view("train")) / (last - first)


def reading() -> dict[str, float]:
    """Pictures and rows a second that one core reads from a stream and prepares, and megabytes a second that a state is saved with."""
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    found = {}
    for side, count in ((32, 20_000), (64, 10_000), (256, 1_500)):
        found[f"pictures of {side} x {side} a second"] = pictures(folder / str(side), side, count, rng)
    found["rows of 50 numbers a second"] = table(folder / "table", rng)
    tree = {"a": torch.randn(50_000_000)}
    save_tree(folder / "warm", tree={"a": torch.randn(10)})
    start = time.perf_counter()
    save_tree(folder / "state", tree=tree)
    with (folder / "state").open("rb") as file:
        os.fsync(file.fileno())
    found["megabytes of a state a second"] = 200.0 / (time.perf_counter() - start)
    print(found, flush=True)
    return found


def pictures(folder: Path, side: int, count: int, rng: np.random.Generator) -> float:
    """Rate of JPEG pictures of smooth noise in a tar file."""
    import tarfile

    folder.mkdir()
    small = rng.integers(0, 256, (count, max(4, side // 8), max(4, side // 8), 3), dtype=np.uint8)
    with tarfile.open(folder / "a.tar", "w") as archive:
        for i, pixels in enumerate(small):
            stream = io.BytesIO()
            Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
            member = tarfile.TarInfo(f"{i:07d}.jpg")
            member.size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)
    return rate(folder)


def table(folder: Path, rng: np.random.Generator) -> float:
    """Rate of rows of float64 in Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for i in range(4):
        columns = {f"c{j}": rng.normal(size=100_000) for j in range(50)}
        pq.write_table(pa.table(columns), folder / f"{i}.parquet", row_group_size=10_000)
    return rate(folder)


def rate(folder: Path) -> float:
    """Examples a second of one pass over the training part of a stream."""
    data = load_data(folder, DataOptions(stream=True))
    batches, generator = data.view("train").batches(128, 0, 0), torch.Generator()
    count, start = 0, time.perf_counter()
    for values, bits, _ in data.stored_batches(batches, generator, byte_source(0)):
        count += len(values if bits is None else data.preparation(values, bits))
    return count / (time.perf_counter() - start)


def measure() -> None:
    """Measure all that is needed, and keep it."""
    torch.set_num_threads(1)
    found = {"machine": f"{os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"}
    found |= {"reading": reading(), "ways": {network: threads_or_processes(network) for network in BATCH}}
    found |= {"steps": [row for network in BATCH for row in compared(network)]}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


CARDS, IMAGES = 64, 1_000_000_000
CASES = (  # name, parameters, images a second that a card trains, bytes of a picture, images a batch and card
    ("convolutions, 32 x 32", 1_500_000, 50_000, 1_500, 1024),
    ("convolutions, 64 x 64", 20_000_000, 10_000, 4_000, 512),
    ("residual, 256 x 256", 100_000_000, 400, 40_000, 32),
)
BANDWIDTHS = (1.25e9, 25e9)  # bytes a second and card: 10 gigabit Ethernet; 200 gigabit InfiniBand
READERS = (1, 14)  # for each card: as it is, and as many as a machine has cores


def cut() -> None:
    """Measure cut networks, and keep that beside the rest."""
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(known | {"cut": whole_or_cut()}, indent=1) + "\n")


def readers() -> None:
    """Measure readers, and keep that beside the rest."""
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.write_text(json.dumps(known | {"readers": read_ahead()}, indent=1) + "\n")


def project() -> None:
    """Print what the simulation says of a billion images on 64 cards."""
    known = json.loads(RESULT.read_text())["reading"]
    save_rate = 1e6 * known["megabytes of a state a second"]
    head = [
        "case",
        "network",
        "readers",
        "step ms",
        "messages ms",
        "reading ms",
        "images/s",
        "of 64 cards %",
        "hours an epoch",
    ]
    print("| " + " | ".join([*head, "sent a step MB", "read MB/s", "state MB", "saving s"]) + " |")
    print("|" + "---|" * (len(head) + 4))
    for (name, parameters, per_card, size, batch), bandwidth, readers in itertools.product(CASES, BANDWIDTHS, READERS):
        side = next(key for key in known if f"{name.split()[-1]} x" in key)
        talk, computing = ring_seconds(parameters, CARDS, bandwidth), batch / per_card
        jitter = computing * np.random.default_rng(0).lognormal(0.0, 0.03, 1000)  # 3 % from step to step, as cards have
        loading, state = batch / (readers * known[side]), 4.0 * parameters * 4  # weights, two moments, best weights
        saving = state / save_rate
        machine = Machine(list(jitter), 1.0, talk, ring_seconds(8, CARDS, bandwidth), loading, saving)
        step = float(simulate(machine, CARDS).mean())
        speed = CARDS * batch / step
        cells = [
            name,
            f"{8 * bandwidth / 1e9:.0f} Gbit/s",
            str(readers),
            *(f"{1e3 * x:.0f}" for x in (step, talk, loading)),
        ]
        cells += [f"{speed:,.0f}", f"{100 * speed / (CARDS * per_card):.0f}", f"{IMAGES / speed / 3600:.1f}"]
        sent = 2 * 4 * parameters * (CARDS - 1) / CARDS
        cells += [f"{sent / 1e6:,.0f}", f"{speed * size / 1e6:,.0f}", f"{state / 1e6:,.0f}", f"{saving:.1f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    {"measure": measure, "project": project, "cut": cut, "readers": readers}[sys.argv[1]]()
