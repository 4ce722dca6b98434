"""One rival on one table, in the rivals' own environment; `run.py` starts it and judges what it writes.

    worker.py tvae TRAIN.csv OUT.csv --rows N --seed S
    worker.py miwae HOLED.csv OUT.csv --seed S
    worker.py pyod TRAIN.csv OUT.csv --other NEW.csv --contamination 0.01 --seed S

Each rival has its own defaults. The last line printed is a JSON object with the seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings

import numpy as np
import pandas as pd
import torch

warnings.filterwarnings("ignore")


def tvae(train: pd.DataFrame, arguments: argparse.Namespace) -> pd.DataFrame:
    """Synthetic rows of TVAE (Xu et al. 2019), from the package of its authors."""
    from ctgan import TVAE

    words = [name for name in train if train[name].dtype == object]
    model = TVAE(enable_gpu=False)
    model.fit(train, words)
    return model.sample(arguments.rows)


def miwae(holed: pd.DataFrame, arguments: argparse.Namespace) -> pd.DataFrame:
    """Cells filled by MIWAE (Mattei and Frellsen 2019), as hyperimpute has it."""
    from hyperimpute.plugins.imputers import Imputers

    return pd.DataFrame(np.asarray(Imputers().get("miwae", random_state=arguments.seed).fit_transform(holed.copy())))


def pyod(train: pd.DataFrame, arguments: argparse.Namespace) -> pd.DataFrame:
    """Scores and alarms of pyod's VAE for new rows."""
    from pyod.models.vae import VAE

    model = VAE(contamination=arguments.contamination, random_state=arguments.seed, verbose=0)
    model.fit(train.to_numpy(np.float32))
    other = pd.read_csv(arguments.other).to_numpy(np.float32)
    return pd.DataFrame({"score": model.decision_function(other), "alarm": model.predict(other)})


def main() -> None:
    """Train, write, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rival", choices=["tvae", "miwae", "pyod"])
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--other")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--contamination", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    np.random.seed(arguments.seed)  # noqa: NPY002 (the rivals draw from it)
    torch.manual_seed(arguments.seed)
    data = pd.read_csv(arguments.data, skipinitialspace=True)
    started = time.perf_counter()
    found = globals()[arguments.rival](data, arguments)
    seconds = time.perf_counter() - started
    found.to_csv(arguments.out, index=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak_gib": peak}))


if __name__ == "__main__":
    main()
