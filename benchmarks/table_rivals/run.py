"""Tables beside TVAE, MIWAE and pyod's VAE: the same rows, the same judge, each with its own defaults.

    python benchmarks/table_rivals/run.py synthesis ADULT.csv --rivals .venv-tables/bin/python
    python benchmarks/table_rivals/run.py imputation --rivals ...
    python benchmarks/table_rivals/run.py alarm --rivals ...
    python benchmarks/table_rivals/run.py large --rivals ...

`make bench-tables` runs all of them. Each writes its record to `benchmarks/results/table-rivals-NAME.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

import calibrae as cb
from calibrae.functional import factor_with_missing
from calibrae.sklearn import Detector, Imputer

RESULTS = Path(__file__).parents[1] / "results"
WORKER = Path(__file__).with_name("worker.py")
SAMPLED = 20_000
SEEDS = 3
SPLITS = 20  # of the rows into those that are trained on and new ones, where alarms are counted
RATE = 0.05


def rival(python: str, name: str, data: pd.DataFrame, **how: Any) -> tuple[pd.DataFrame, dict[str, float]]:
    """What a rival makes of a table, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "given.csv", Path(folder) / "out.csv"
        data.to_csv(given, index=False)
        words = [f"--{key}={value}" for key, value in how.items() if not isinstance(value, pd.DataFrame)]
        if "other" in how:
            how["other"].to_csv(Path(folder) / "other.csv", index=False)
            words.append(f"--other={Path(folder) / 'other.csv'}")
        command = [python, str(WORKER), name, str(given), str(out), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return pd.read_csv(out), json.loads(done.stdout.splitlines()[-1])


def synthesis(python: str, path: str) -> dict[str, Any]:
    """Adult: synthetic rows beside held-out ones, judged by `cb.fidelity`; the rival is trained on our training and validation rows."""
    frame = pd.read_csv(path, skipinitialspace=True)
    data = cb.load_data(frame)
    model = cb.build(spec=data.spec, latent_dim=10)
    started = time.perf_counter()
    run = cb.fit(model, data, quiet=True, pictures=False)
    seconds = time.perf_counter() - started
    ours = cb.fidelity(run, run.sample_frame(SAMPLED, seed=1)).to_dict()
    held_out = data.view("test").index
    theirs, cost = rival(python, "tvae", frame.drop(index=held_out), rows=SAMPLED)
    mine = {"seconds": seconds, **ours}
    return {"rows": SAMPLED, "calibrae": mine, "tvae": {**cost, **cb.fidelity(run, theirs).to_dict()}}


def imputation(python: str) -> dict[str, Any]:
    """Breast cancer, half of the cells missing at random: mean squared error of the filled cells, standardised columns.

    Beside them probabilistic PCA with ten factors, fitted to the observed cells by EM.
    """
    x = load_breast_cancer(return_X_y=True)[0]
    x = (x - x.mean(0)) / x.std(0)
    found: dict[str, Any] = {"calibrae": [], "miwae": [], "ppca": []}
    for seed in range(SEEDS):
        hole = np.random.default_rng(seed).random(x.shape) < 0.5
        holed = pd.DataFrame(np.where(hole, np.nan, x))
        started = time.perf_counter()
        ours = Imputer(random_state=seed).fit_transform(holed)
        cost = time.perf_counter() - started
        found["calibrae"].append({"mse": float(((np.asarray(ours) - x)[hole] ** 2).mean()), "seconds": cost})
        rows = torch.from_numpy(holed.to_numpy())
        linear = factor_with_missing(rows, 10, equal_noise=True).fill(rows).numpy()
        found["ppca"].append({"mse": float(((linear - x)[hole] ** 2).mean())})
        theirs, spent = rival(python, "miwae", holed, seed=seed)
        found["miwae"].append({"mse": float(((theirs.to_numpy() - x)[hole] ** 2).mean()), **spent})
    return found


def alarm(python: str) -> dict[str, Any]:
    """Tumours and digits: ordinary rows to train on; alarms at a stated rate and the area under the curve on new rows."""
    cancer, digits = load_breast_cancer(return_X_y=True), load_digits(return_X_y=True)
    tables = {
        "benign against malignant tumours": (cancer[0][cancer[1] == 1], cancer[0][cancer[1] == 0]),
        "digits 0 to 7 against 8 and 9": (digits[0][digits[1] < 8], digits[0][digits[1] >= 8]),
    }
    found: dict[str, Any] = {}
    for name, (ordinary, strange) in tables.items():
        rows = [_alarms(python, ordinary, strange, seed) for seed in range(SPLITS)]
        found[name] = {
            who: {
                key: {"mean": float(np.mean(values)), "error": float(np.std(values, ddof=1) / len(values) ** 0.5)}
                for key in rows[0][who]
                for values in [[row[who][key] for row in rows]]
            }
            for who in rows[0]
        }
        print(name, found[name], file=sys.stderr)
    return {"stated_rate": RATE, "splits": SPLITS, **found}


def _alarms(python: str, ordinary: np.ndarray, strange: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    """One split: train on two thirds of the ordinary rows; judge on the rest and on the strange ones."""
    train, new = train_test_split(ordinary, test_size=1 / 3, random_state=seed)
    other, is_strange = np.concatenate([new, strange]), np.repeat([0, 1], [len(new), len(strange)])
    started = time.perf_counter()
    detector = Detector(false_alarm_rate=RATE, random_state=seed).fit(train)
    ours, raised = -detector.decision_function(other), detector.predict(other) == -1
    cost = time.perf_counter() - started
    theirs, spent = rival(python, "pyod", pd.DataFrame(train), other=pd.DataFrame(other), contamination=RATE, seed=seed)
    return {
        "calibrae": _judged(ours, raised, is_strange, cost),
        "pyod": _judged(theirs["score"].to_numpy(), theirs["alarm"].to_numpy() == 1, is_strange, spent["seconds"]),
    }


def _judged(score: np.ndarray, raised: np.ndarray, is_strange: np.ndarray, seconds: float) -> dict[str, float]:
    return {
        "area": float(roc_auc_score(is_strange, score)),
        "false_alarms": float(raised[is_strange == 0].mean()),
        "found": float(raised[is_strange == 1].mean()),
        "seconds": seconds,
    }


def large(python: str) -> dict[str, Any]:
    """100,000 rows x 50 mixed columns: seconds to train and to draw as many rows, and memory, of the rival; ours are in `tables.py large`."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tables import large_table

    frame = large_table().dropna()  # the rival takes no missing numbers
    _, cost = rival(python, "tvae", frame, rows=len(frame))
    return {"rows": len(frame), "tvae": cost}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["synthesis", "imputation", "alarm", "large"])
    parser.add_argument("data", nargs="?", help="adult.csv")
    parser.add_argument("--rivals", required=True, help="python of the environment with ctgan, hyperimpute and pyod")
    arguments = parser.parse_args()
    given = [arguments.data] if arguments.what == "synthesis" else []
    record = globals()[arguments.what](arguments.rivals, *given)
    record |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"table-rivals-{arguments.what}.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
