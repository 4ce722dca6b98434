"""Tables: densities, synthetic rows, imputation and size, measured.

    python benchmarks/tables.py adult path/to/adult.csv       # as it is: log p, baselines, column shapes
    python benchmarks/tables.py categories path/to/adult.csv  # nine columns of words, `?` a word, beside the Chow-Liu tree
    python benchmarks/tables.py cancer                        # half of the cells missing: imputation error, three seeds
    python benchmarks/tables.py simulated                     # tables whose density is known
    python benchmarks/tables.py large                         # 100,000 rows x 50 mixed columns: minutes and memory

Each writes its record to `benchmarks/results/tables-NAME.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import calibrae as cb
from calibrae.functional import chow_liu, factor_with_missing

RESULTS = Path(__file__).parent / "results"
QUIET: dict[str, Any] = {"quiet": True, "pictures": False}


def trained(
    data: Any, *, latent_dim: int, seed: int = 0, hidden: tuple[int, ...] = (256, 256), **how: Any
) -> tuple[Any, float]:
    """A run, and its seconds."""
    objective = how.pop("objective", None)
    model = cb.build(
        spec=data.spec, latent_dim=latent_dim, seed=seed, objective=objective, options=cb.NetworkOptions(hidden=hidden)
    )
    started = time.perf_counter()
    run = cb.fit(model, data, seed=seed, **QUIET, **how)
    return run, time.perf_counter() - started


def numbers(run: Any, samples: int = 200) -> dict[str, Any]:
    """The figures of the test split."""
    e = run.evaluate(importance_samples=samples)
    return {
        "rows": e.n,
        "log_p": e.log_likelihood_nats,
        "error": e.log_likelihood_standard_error,
        "elbo": e.elbo_nats,
        "baseline": e.baseline,
        "baseline_log_p": e.baseline_log_likelihood_nats,
        "baseline_error": e.standard_errors.get("baseline_log_likelihood_nats"),
        "elbo_minus_baseline_error": e.standard_errors.get("elbo_minus_baseline_nats"),
    }


def adult(path: str) -> dict[str, Any]:
    """Adult as it comes."""
    run, seconds = trained(cb.load_data(path), latent_dim=10, lr=1e-3, objective="iwae:samples=5")
    shapes = cb.fidelity(run, run.sample_frame(20_000, seed=1))
    print(shapes, file=sys.stderr)
    return {"seconds": seconds, **numbers(run), "fidelity": shapes.to_dict()}


def categories(path: str) -> dict[str, Any]:
    """The nine columns of words, `?` a word like the others, split as the published figure was."""
    frame = pd.read_csv(path, skipinitialspace=True, keep_default_na=False)
    words = frame.select_dtypes(include=["object", "string"]).replace("?", "unknown")
    order = np.random.default_rng(0).permutation(len(words))
    fifth = len(words) // 5
    train, held_out = words.iloc[order[:-fifth]], words.iloc[order[-fifth:]]
    codes = {name: {word: i for i, word in enumerate(sorted(words[name].unique()))} for name in words}
    coded = [torch.from_numpy(np.stack([part[n].map(codes[n]) for n in words], 1)) for part in (train, held_out)]
    tree = chow_liu(coded[0], [len(known) for known in codes.values()]).log_prob(coded[1])
    run, seconds = trained(
        cb.load_data({"train": train, "test": held_out}), latent_dim=10, lr=1e-3, objective="iwae:samples=5"
    )
    found = -run.score(importance_samples=500).nll
    apart = found - tree
    return {
        "seconds": seconds, "rows": len(held_out), "nats_a_row": -float(found.mean()), "tree_nats_a_row": -float(tree.mean()),
        "difference": float(apart.mean()), "difference_error": float(apart.std() / len(apart) ** 0.5),
    }  # fmt: skip


def cancer() -> dict[str, Any]:
    """Breast cancer, the protocol of the MIWAE demonstration."""
    from sklearn.datasets import load_breast_cancer

    x = load_breast_cancer(return_X_y=True)[0].astype(np.float32)
    x = (x - x.mean(0)) / x.std(0)
    gone = np.random.RandomState(1234).choice(x.size, x.size // 2, replace=False)
    holed = x.flatten()
    holed[gone] = np.nan
    holed = holed.reshape(x.shape)
    hole = np.isnan(holed)
    rows = torch.from_numpy(holed.astype(np.float64))
    ppca = factor_with_missing(rows, 10, equal_noise=True, iterations=500)
    data = cb.load_data({"train": holed, "validation": holed, "test": holed})
    found = []
    for seed in range(3):
        run, seconds = trained(
            data,
            latent_dim=10,
            seed=seed,
            hidden=(128, 128),
            objective="iwae:samples=20",
            epochs=600,
            lr=1e-3,
            weight_decay=0.0,
        )
        filled = np.asarray(cb.impute(run, split="train", samples=2000).rows)
        error, value = float(((filled - x)[hole] ** 2).mean()), run.evaluate(split="train", importance_samples=2000)
        found.append({"seed": seed, "mse": error, "log_p": value.log_likelihood_nats, "seconds": seconds})
        print(found[-1], file=sys.stderr)
    means = {"mse": float(np.mean([f["mse"] for f in found])), "log_p": float(np.mean([f["log_p"] for f in found]))}
    return {
        "seeds": found, **means, "ppca_mse": float(((ppca.fill(rows).numpy() - x)[hole] ** 2).mean()), "ppca_log_p": float(ppca.log_prob(rows).mean()),
    }  # fmt: skip


def grid(count: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """A grid of nine normals in two columns and a word that depends on the place, with their log density."""
    cell, sigma = rng.integers(0, 9, count), 0.5
    centres = np.stack([cell // 3, cell % 3], 1) * 3.0
    x = centres + sigma * rng.normal(size=(count, 2))
    p = np.array([0.8, 0.5, 0.2])[cell % 3]
    word = rng.random(count) < p
    places = np.stack(np.meshgrid([0.0, 3.0, 6.0], [0.0, 3.0, 6.0], indexing="ij"), -1).reshape(-1, 2)
    distance = ((x[:, None] - places) ** 2).sum(-1)
    share = np.tile([0.8, 0.5, 0.2], 3)
    weight = np.where(word[:, None], share, 1 - share)
    density = (weight * np.exp(-distance / (2 * sigma**2)) / (2 * math.pi * sigma**2)).mean(1)
    return pd.DataFrame({"x": x[:, 0], "y": x[:, 1], "word": np.where(word, "yes", "no")}), np.log(density)


def network(count: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """A Bayesian network: season, rain by season, sprinkler by season, wet by both, and a temperature by season."""
    season = rng.integers(0, 4, count)
    chance = np.array([[0.6, 0.1], [0.3, 0.3], [0.1, 0.7], [0.5, 0.2]])[season]
    rain, sprinkler = rng.random(count) < chance[:, 0], rng.random(count) < chance[:, 1]
    wet = np.array([[0.05, 0.9], [0.85, 0.98]])[rain.astype(int), sprinkler.astype(int)]
    is_wet = rng.random(count) < wet
    middle = np.array([0.0, 12.0, 24.0, 10.0])[season]
    heat = middle + 4.0 * rng.normal(size=count)
    log_p = (
        -math.log(4)
        + np.log(np.where(rain, chance[:, 0], 1 - chance[:, 0]))
        + np.log(np.where(sprinkler, chance[:, 1], 1 - chance[:, 1]))
    )
    log_p = (
        log_p
        + np.log(np.where(is_wet, wet, 1 - wet))
        - 0.5 * ((heat - middle) / 4.0) ** 2
        - math.log(4.0 * math.sqrt(2 * math.pi))
    )
    names = np.array(["winter", "spring", "summer", "autumn"])
    columns = {"season": names[season], "rain": rain, "sprinkler": sprinkler, "wet": is_wet, "heat": heat}
    return pd.DataFrame(columns), log_p


def simulated() -> dict[str, Any]:
    """Tables whose density is known, 10,000 rows to train on."""
    found: dict[str, Any] = {}
    makers: dict[str, Callable[..., tuple[pd.DataFrame, np.ndarray]]] = {"grid": grid, "network": network}
    for name, make in makers.items():
        rng = np.random.default_rng(0)
        train, _ = make(10_000, rng)
        test, truth = make(4000, rng)
        run, seconds = trained(
            cb.load_data({"train": train, "test": test}),
            latent_dim=4,
            lr=1e-3,
            objective="iwae:samples=10",
            epochs=120,
            hidden=(128, 128),
        )
        log_p = -run.score(importance_samples=1000).nll.numpy()
        apart = log_p - truth
        found[name] = {
            "seconds": seconds, "truth": float(truth.mean()), "log_p": float(log_p.mean()), "difference": float(apart.mean()),
            "difference_error": float(apart.std() / len(apart) ** 0.5),
        }  # fmt: skip
        if name == "grid":
            found[name]["interval_coverage"] = _coverage(run, test)
        print(name, found[name], file=sys.stderr)
    return found


def _coverage(run: Any, test: pd.DataFrame, draws: int = 200) -> float:
    """Share of removed cells that lie within the central 95 % of their multiple imputations."""
    rows = test[:1000].copy()
    removed = rows["x"].to_numpy().copy()
    rows["x"] = np.nan
    many = cb.impute(run, rows, draws=draws, samples=500).rows
    drawn = many["x"].to_numpy().reshape(draws, len(rows))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return float(((low <= removed) & (removed <= high)).mean())


def large_table() -> pd.DataFrame:
    """100,000 rows x 50 mixed columns, a fiftieth of the cells missing."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(100_000, 5))
    columns: dict[str, Any] = {}
    for j in range(50):
        u = z @ rng.normal(size=5) / math.sqrt(5) + 0.5 * rng.normal(size=len(z))
        kind = j % 5
        columns[f"c{j}"] = [
            u,
            np.exp(u),
            np.digitize(u, np.linspace(-2, 2, 9)),
            np.array(list("abcdefgh"))[np.digitize(u, np.linspace(-1.5, 1.5, 7))],
            u > 0,
        ][kind]
    frame = pd.DataFrame(columns)
    return frame.mask(rng.random(frame.shape) < 0.02)


def large() -> dict[str, Any]:
    """Minutes and memory of a large table."""
    frame = large_table()
    started = time.perf_counter()
    data = cb.load_data(frame)
    read = time.perf_counter() - started
    run, seconds = trained(data, latent_dim=8, lr=1e-3, epochs=5)
    started = time.perf_counter()
    rows = run.sample_frame(100_000)
    drawn = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "read_seconds": read,
        "seconds": seconds,
        "sample_seconds": drawn,
        "sampled": len(rows),
        "peak_gib": peak,
        **numbers(run, 50),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["adult", "categories", "cancer", "simulated", "large"])
    parser.add_argument("data", nargs="?", help="adult.csv")
    arguments = parser.parse_args()
    given = [arguments.data] if arguments.what in ("adult", "categories") else []
    record = globals()[arguments.what](*given)
    record |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"tables-{arguments.what}.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
