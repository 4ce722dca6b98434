"""Audits by a file's name, and of our own runs."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..audit import AuditRecord, audit_loss
from ..errors import ArgumentError, RunError
from ..objectives import vae_loss
from ..runs import RunFolder
from ._records import stored_request
from ._run import Run
from ._stored import run_preparation

STANDARDISED = (-3.0, 3.0)


def load_function(place: str) -> Callable[..., Any]:
    """A function of a Python file, from `FILE.py:FUNCTION`; a class is called for its object.

    Raises:
        ArgumentError: if the file, the function or an import in it is missing.
    """
    name, _, function = place.partition(":")
    file = Path(name)
    if not file.is_file():
        raise ArgumentError(f"{name} is not a file. Pass FILE.py:FUNCTION.")
    spec = importlib.util.spec_from_file_location(f"audited_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"{name} is not a Python file. Pass FILE.py:FUNCTION.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules[spec.name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a stranger's file may fail in any way
        raise ArgumentError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    found: Any = module
    for part in (function or "loss").split("."):
        found = getattr(found, part, None)
    if not callable(found):
        known = [
            n for n, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == spec.name
        ]
        raise ArgumentError(f"{name} has no function {function or 'loss'}; it has {', '.join(known) or 'none'}.")
    if not isinstance(found, type):
        chosen: Callable[..., Any] = found
        return chosen
    try:
        made: Callable[..., Any] = found()
    except Exception as error:
        raise ArgumentError(
            f"{place} cannot be made without arguments: {error} Pass a function that makes it."
        ) from error
    return made


def audit_run(run: str | Path | Run) -> AuditRecord:
    """Audit what a run minimised, as if it were anybody's loss: an optimal scale as in training, after any warm-up.

    Raises:
        RunError: if the run or its model cannot be read.
        ArgumentError: if the loss cannot be written as a function of one reconstruction and a Gaussian posterior.
    """
    opened = run if isinstance(run, Run) else Run(RunFolder.open(run))
    stored = stored_request(opened.folder)
    if stored.is_own and opened._model is None:
        raise RunError(
            f"{opened.path} was trained on your own modules, whose code is not stored. Audit in Python: the run that fit returned, or "
            "cb.open_run(path, model=model).audit()."
        )
    model, preparation = opened.model, run_preparation(opened.path)
    likelihood = copy.deepcopy(model.likelihood).train()
    context = None if model.context_dim == 0 else torch.zeros(model.context_dim, device=model.device)
    objective = stored.make_objective(model.objective)
    record = audit_loss(
        vae_loss(likelihood, model.prior, objective, context),
        data_shape=preparation.spec.data_shape,
        latent_dim=model.latent_dim,
        batch_size=int(stored.training["batch_size"]),
        data_range=STANDARDISED if preparation.spec.scale.startswith("columns") else (0.0, 1.0),
        x_hat="logits" if likelihood.support == "binary" else "data",
    )
    if model.is_probabilistic:
        return record
    by_design = [
        replace(f, severity="note", remedy="A plain autoencoder has none, by design.") if f.code == "kl-missing" else f
        for f in record.findings
    ]
    return replace(record, findings=tuple(by_design))
