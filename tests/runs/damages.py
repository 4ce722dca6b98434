"""Damage the files of a run and of the cache at random, use the run, and see what comes of it.

    python tests/runs/damages.py --damages 10000

Each damage must be refused with the name of a file, or be harmless: the same numbers as before. A crash, code that runs, a number that
changes, a use that takes minutes or gigabytes is a fault.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import tomllib
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import calibrae as cb
from calibrae.data import _cache
from calibrae.errors import CalibraeError
from calibrae.runs._atomic import checksum, checksum_of
from calibrae.runs._tensors import load_tensors, save_tensors

SECONDS = 20  # that a use may take
MEMORY = 6 << 30  # bytes that it may reserve
ROWS = np.random.default_rng(0).normal(size=(300, 6))


class Bomb:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (os.environ["CALIBRAE_BOMB"],)


def foreign(rng: random.Random) -> bytes:
    """Content of a file of another kind."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
        archive.writestr("arr_0.npy", pickle.dumps(Bomb()))
    array = io.BytesIO()
    np.save(array, np.array([Bomb()], dtype=object), allow_pickle=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 4]}}).encode()
    kinds = [
        pickle.dumps(Bomb()),
        stream.getvalue(),
        array.getvalue(),
        b"\x89PNG\r\n\x1a\n" + rng.randbytes(50),
        b"[1, 2, 3]",
        b"null",
        b"7",
        b'{"a": {}}',
        b"{" * 20_000,
        b"[" * 20_000,
        b'{"format": 1, "files": {}, "checksum": "0"}',
        b'{"format": 1' + b"0" * 5000 + b"}",
        struct.pack("<Q", 1 << 62) + b"{}",
        struct.pack("<Q", len(header)) + header + b"1234",
        b"\xff\xfe\x00",
        b"a = [" * 3000,
    ]
    return rng.choice(kinds)


def flip(content: bytes, rng: random.Random, count: int) -> bytes:
    """Flip some bits."""
    damaged = bytearray(content)
    for _ in range(count if damaged else 0):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def edit(content: bytes, rng: random.Random) -> bytes:
    """Change one digit of a text: what a hand would change."""
    places = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    if not places:
        return flip(content, rng, 1)
    damaged = bytearray(content)
    damaged[rng.choice(places)] = ord(str(rng.randrange(10)))
    return bytes(damaged)


def damage(file: Path, files: list[Path], rng: random.Random) -> str:
    """Damage a file in one of many ways; returns which."""
    content = file.read_bytes()
    kinds: dict[str, Callable[[], bytes]] = {
        "one bit": lambda: flip(content, rng, 1),
        "some bits": lambda: flip(content, rng, rng.randint(2, 50)),
        "a digit": lambda: edit(content, rng),
        "cut": lambda: content[: rng.randrange(len(content))] if content else b"",
        "empty": lambda: b"",
        "zeros": lambda: bytes(len(content)),
        "noise": lambda: rng.randbytes(len(content)),
        "longer": lambda: content + rng.randbytes(rng.randint(1, 200)),
        "another of ours": lambda: rng.choice(files).read_bytes(),
        "a part twice": lambda: content[: len(content) // 2] * 2,
        "foreign": lambda: foreign(rng),
    }
    name = rng.choice([*kinds, "missing", "a folder", "a link"])
    if name in kinds:
        file.write_bytes(kinds[name]())
        return name
    file.unlink()
    if name == "a folder":
        file.mkdir()
    elif name == "a link":
        file.symlink_to("/etc/passwd")
    return name


ODD: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    "../../etc/passwd",
    "cache:../x",
    -1,
    0,
    1e308,
    10**30,
    True,
    [1, 2],
    {"name": "x"},
    "nan",
    2,
    7,
    0.5,
    [[]],
    "\x00",
]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places of all values in nested data, branches too."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, entry in entries for found in leaves(entry, (*path, key)))]


def forge(run: Path, rng: random.Random) -> str:
    """Change a value of a text file of the run to an odd one, or leave it out, with checksums that are right."""
    import tomli_w

    name = rng.choice(["run.json", "model.json", "config.toml"])
    file = run / name
    stored = tomllib.loads(file.read_text()) if name.endswith("toml") else json.loads(file.read_text())
    places = [place for place in leaves(stored) if place and place[0] not in ("checksum", "files")]
    place = rng.choice(places)
    parent = stored
    for key in place[:-1]:
        parent = parent[key]
    odd = rng.choice(ODD)
    if rng.random() < 0.15:
        del parent[place[-1]]
    else:
        parent[place[-1]] = 3 if odd is None and name.endswith("toml") else odd
    file.write_text(tomli_w.dumps(stored) if name.endswith("toml") else json.dumps(stored))
    known = json.loads((run / "run.json").read_text())
    if name == "model.json":
        tensors, facts = load_tensors(run / "model.safetensors")
        save_tensors(run / "model.safetensors", tensors, {**facts, "description": checksum_of(stored)})
    if isinstance(known, dict) and isinstance(known.get("files"), dict):
        known["files"] |= {path: [checksum(run / path)] for path in known["files"] if (run / path).is_file()}
        known.pop("checksum", None)
        (run / "run.json").write_text(json.dumps({**known, "checksum": checksum_of(known)}))
    return f"{name} {'.'.join(map(str, place))} = {odd!r}"


@dataclass
class Place:
    """A run and its cache, whole, from which damaged copies are made."""

    folder: Path
    numbers: dict[str, Any] = field(default_factory=dict)

    def make(self) -> None:
        """Train the run, and note what each use gives."""
        os.environ["CALIBRAE_CACHE"] = str(self.folder / "cache")
        cb.fit(
            model(),
            ROWS,
            self.folder / "run",
            epochs=2,
            quiet=True,
            pictures=False,
            compile="off",
            precision="fp32",
            keep=2,
        )
        self.numbers = {name: use(self.folder / "run") for name, use in USES.items()}

    def copy(self, to: Path) -> tuple[Path, list[Path]]:
        """A copy, and the files in it that are read."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.folder, to)
        os.environ["CALIBRAE_CACHE"] = str(to / "cache")
        _cache._CHECKED.clear()
        files = [path for path in sorted(to.rglob("*")) if path.is_file() and "tensorboard" not in str(path)]
        return to / "run", files


def model() -> cb.VAE:
    return cb.build("sigma-vae", data_shape=(6,), latent_dim=2, network="linear")


def evaluated(run: Path) -> Any:
    """Numbers of an evaluation, and the verdict."""
    found = cb.evaluate(run, importance_samples=5).to_dict()
    return {name: value for name, value in found.items() if name not in ("notes", "seconds")}


def looked_at(run: Path) -> Any:
    """The history, and what the run says of itself."""
    opened = cb.open_run(run)
    return [opened.history, repr(opened).split("data=")[1], opened.sample(3).tolist(), len(cb.diagnose(run))]


def resumed(run: Path) -> Any:
    """The history of a run that goes on, without times."""
    more = cb.fit(model(), ROWS, run, resume=True, quiet=True, pictures=False)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in more.history]


USES: dict[str, Callable[[Path], Any]] = {"evaluate": evaluated, "look": looked_at}


def outcome(run: Path, name: str, use: Callable[[Path], Any], expected: Any) -> str:
    """Use a damaged run: `refused`, `harmless`, or the fault."""
    try:
        found = use(run)
    except CalibraeError as error:
        return "refused" if "\n" not in str(error) else f"{name}: a message of several lines: {error}"
    except MemoryError:
        return f"{name}: memory"
    except TooLong:
        return f"{name}: too long"
    except BaseException as error:  # whatever it is, it is a fault
        return f"{name}: {type(error).__name__}: {str(error)[:150]}"
    return "harmless" if found == expected else f"{name}: other numbers in silence"


class TooLong(BaseException):
    """A use that takes too long."""


def too_long(_number: int, _frame: FrameType | None) -> None:
    raise TooLong


def forge_and_use(forgeries: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Forge so often; a run may then be another run, but nothing may crash, hang or run code."""
    os.environ["CALIBRAE_BOMB"] = str(folder / "exploded")
    place = Place(folder / "whole")
    place.make()
    counts: Counter[str] = Counter()
    faults: list[str] = []
    signal.signal(signal.SIGALRM, too_long)
    for number in range(forgeries):
        rng = random.Random(f"{seed}-{number}")
        run, _ = place.copy(folder / "copy")
        what = forge(run, rng)
        name, use = rng.choice([*USES.items(), ("resume", resumed)])
        signal.alarm(SECONDS)
        found = outcome(run, name, use, None)
        signal.alarm(0)
        is_fine = found == "refused" or found.endswith("other numbers in silence")
        counts["refused" if found == "refused" else "used" if is_fine else "fault"] += 1
        faults += [] if is_fine else [f"{number}: {what}, {found}"]
    return counts, faults


def damage_and_use(damages: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Damage so often; returns how many were refused or harmless, and the faults."""
    os.environ["CALIBRAE_BOMB"] = str(folder / "exploded")
    place = Place(folder / "whole")
    place.make()
    USES["resume"] = resumed
    place.numbers["resume"] = resumed(place.copy(folder / "copy")[0])
    counts: Counter[str] = Counter()
    faults: list[str] = []
    signal.signal(signal.SIGALRM, too_long)
    for number in range(damages):
        rng = random.Random(f"{seed}-{number}")
        run, files = place.copy(folder / "copy")
        file = rng.choice(files)
        what = damage(file, files, rng)
        name = rng.choice(["resume"] if "checkpoints" in str(file) else list(USES))
        signal.alarm(SECONDS)
        found = outcome(run, name, USES[name], place.numbers[name])
        signal.alarm(0)
        counts[found if found in ("refused", "harmless") else "fault"] += 1
        if found not in ("refused", "harmless"):
            faults.append(f"{number}: {file.relative_to(folder / 'copy')}, {what}, {found}")
        if (folder / "exploded").exists():
            faults.append(f"{number}: {file.name}, {what}: code ran")
            (folder / "exploded").rmdir()
    return counts, faults


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--damages", type=int, default=10_000)
    parser.add_argument("--forgeries", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory(prefix="calibrae-damages-") as folder:
        counts, faults = damage_and_use(asked.damages, asked.seed, Path(folder))
        forged, more = forge_and_use(asked.forgeries, asked.seed, Path(folder) / "forged")
    faults += more
    print(f"damages {asked.damages}: {dict(counts)}; forgeries {asked.forgeries}: {dict(forged)}")
    print(*faults, sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
