"""Trains several models under a launcher, and writes what came of them; see `test_processes.py`.

torchrun --nproc-per-node 2 tests/training/processes.py OUT [KIND ...]
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import distributed as dist
from torch import nn

import calibrae as cb
from calibrae.data import DataOptions
from calibrae.training import EagerStep, _sharded, _world

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 203)
IMAGES = (RNG.integers(0, 90, (203, 1, 8, 8)) + 40 * LABELS[:, None, None, None]).astype(np.uint8)
TABLE = RNG.normal(size=(203, 5))


def build(**parts: Any) -> cb.VAE:
    made: dict[str, Any] = {
        "data_shape": (1, 8, 8),
        "latent_dim": 3,
        "options": cb.NetworkOptions(hidden=(16,), width=8),
    }
    return cb.build("sigma-vae", **made | {"network": "mlp"} | parts)


def own() -> cb.VAE:
    """Modules whose first weights differ in each process, as those of a script without a seed do; one parameter reaches no loss."""
    torch.manual_seed(int(os.environ.get("RANK", "0")))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 6))
    encoder.register_parameter("idle", nn.Parameter(torch.ones(3)))
    decoder = nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8)))
    likelihood, prior = cb.GaussianLikelihood("optimal"), cb.StandardNormalPrior(3)
    return cb.VAE(encoder, decoder, likelihood, prior, posterior=cb.GaussianPosterior("log_var"))


OFTEN = {"save_every": 3}  # runs that are resumed in the middle
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "optimal": (build, IMAGES, OFTEN),
    "element": (lambda: build(sigma_shared="element"), IMAGES, {"horizontal_flip": True}),
    "laplace, learned": (
        lambda: build(likelihood="laplace", sigma="learned", sigma_shared="channel"),
        IMAGES,
        {"ema_decay": 0.9},
    ),
    "conv": (lambda: build(network="conv"), IMAGES, {"kl_warmup": 0.5, "beta": 2.0}),
    "table, iwae": (lambda: build(data_shape=(5,), objective="iwae:samples=3"), TABLE, {}),
    "condition, pieces": (
        lambda: build(context_dim=3, prior="conditional-gaussian"),
        IMAGES,
        {"condition": LABELS, "micro_batches": 3},
    ),
    "own": (own, IMAGES, {"grad_clip_norm": 0.01}),
    "cut": (lambda: build(sigma="learned"), IMAGES, {"fsdp": True, "grad_clip_norm": 0.01}),
    "cut, pieces": (lambda: build(network="conv"), IMAGES, {"fsdp": True, "micro_batches": 3}),
    "cut, own": (own, IMAGES, {"fsdp": True}),
    "cut, mixture": (lambda: build(prior="mixture"), IMAGES, {"fsdp": True} | OFTEN),
    "stream": (lambda: build(data_shape=(5,)), "shards", {"options": DataOptions(stream=True)}),
}


def write_shards(folder: Path) -> None:
    """Write the shards of the kind `stream`."""
    folder.mkdir()
    for shard, rows in enumerate(np.array_split(np.random.default_rng(1).normal(size=(430, 5)), 3)):
        table = pa.table({f"c{i}": column for i, column in enumerate(rows.T)})
        pq.write_table(table, folder / f"{shard}.parquet", row_group_size=10)


def dying(at: int) -> None:
    """Kill the second process of a first attempt before a step."""
    original = EagerStep.__call__

    def call(self: EagerStep, pieces: Any, step: int) -> Any:
        if step == at and os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, pieces, step)

    EagerStep.__call__ = call  # type: ignore[method-assign]


def evaluated_by_the_first(run: cb.Run) -> tuple[float, bool, int]:
    """The ELBO of a call that the other processes do not make, whether they share the next call, and examples of one that differs."""
    usual, rank = _world.meet.__defaults__, int(os.environ["RANK"])
    _world.meet.__defaults__ = (1.0,)
    alone = cb.evaluate(run).elbo_nats if rank == 0 else 0.0
    dist.barrier()
    _world.meet.__defaults__ = usual
    shared = _world.meet("cpu", lambda: "this").size == dist.get_world_size()
    return alone or 0.0, shared, cb.evaluate(run, IMAGES[: 50 + 10 * rank]).n


def share_of_a_process() -> float:
    """Share of the weights of a model's networks, whose parts are cut one by one, that this process holds."""
    model = build()
    networks = nn.ModuleList([model.encoder, model.decoder])
    copy = _sharded.cut(model)
    own = sum(_sharded.own_piece(p).numel() for part in (copy.encoder, copy.decoder) for p in part.parameters())
    return own / sum(p.numel() for p in networks.parameters())


def main() -> None:
    """Train what was asked for; the first process writes the histories and evaluations."""
    out, kinds = Path(sys.argv[1]), sys.argv[2:]
    found = {}
    if kinds == ["shards"]:
        write_shards(out.parent / "shards")
        return
    longer = {"epochs": 4, "resume": True} if kinds == ["longer"] else {}
    if kinds == ["longer"]:
        kinds = ["cut, mixture"]
    if kinds == ["dying"]:
        dying(at=13)
        kinds = ["optimal"]
    for kind in kinds or KINDS:
        make, data, settings = KINDS[kind]
        _sharded.LARGE = 1 if kind == "cut" else 1 << 20  # so that every part of these networks is cut on its own
        data = str(out.parent / data) if isinstance(data, str) else data
        given = {
            "epochs": 2,
            "batch_size": 20,
            "precision": "fp32",
            "compile": "off",
            "pictures": False,
        }
        run = cb.fit(make(), data, out / kind, quiet=True, **given | settings | longer)
        record = cb.evaluate(run, importance_samples=4)
        found[kind] = {
            "history": run.history,
            "elbo": record.elbo_nats,
            "bound": record.log_likelihood_nats,
            "sigma": record.sigma,
            "baseline": record.baseline_log_likelihood_nats,
            "errors": record.standard_errors,
            "scores": cb.score(run, importance_samples=3).nll.tolist(),
            "codes": run.encode(split="train").tolist(),
        }
        if kind == "cut" and out.name != "1":
            found[kind]["share"] = share_of_a_process()
        if kind == "optimal" and out.name != "1":
            found[kind]["first alone"] = evaluated_by_the_first(run)
    if os.environ.get("RANK", "0") == "0":
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
