"""Losses of other shapes as `loss(x, x_hat, mu, logvar)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError

METHODS = ("loss_function", "loss", "compute_loss", "criterion", "elbo_loss")
NAMES: dict[str, tuple[str, ...]] = {
    "x": ("x", "input", "inputs", "target", "targets", "data", "original", "images", "image"),
    "x_hat": (
        "x_hat",
        "xhat",
        "recon_x",
        "x_recon",
        "recons",
        "recon",
        "reconstruction",
        "output",
        "outputs",
        "x_rec",
        "x_reconstructed",
        "pred",
    ),
    "mu": ("mu", "mean", "z_mean", "z_mu", "q_mean", "loc"),
    "logvar": ("logvar", "log_var", "log_variance", "z_logvar", "z_log_var", "logsigma2", "log_sigma2"),
}


def in_usual_order(loss: Callable[..., Any]) -> Callable[..., Any]:
    """Reorder the arguments of a loss by the names of its parameters; leave a loss without the usual names alone.

    Examples:
        >>> from calibrae.audit._adapters import in_usual_order
        >>> in_usual_order(lambda recon_x, x, mu, logvar: recon_x)(1, 2, 3, 4)
        2
    """
    try:
        parameters = list(inspect.signature(loss).parameters.values())
    except (TypeError, ValueError):
        return loss
    names = [p.name.lower() for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][: len(NAMES)]
    roles = [next((role for role, known in NAMES.items() if name in known), None) for name in names]
    if set(roles) != set(NAMES) or roles == list(NAMES):
        return loss

    def ordered(*tensors: Tensor) -> Any:
        known = dict(zip(NAMES, tensors, strict=True))
        return loss(*(known[role] for role in roles if role is not None))

    return ordered


def module_loss(
    module: nn.Module, batch: Tensor, method: str | None = None, **options: Any
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Find the loss method of a whole module, and read its sizes off an example batch.

    The method (`loss_function`, `loss`, ...) is recognised by its name and its parameters by theirs (`recons`, `input`, `mu`,
    `log_var`, ...). One that takes everything as `*args` is given `(x_hat, x, mu, logvar)`, the usual order.

    Args:
        module: model that returns, among others, a reconstruction like `batch` and two `[B, d]` tensors.
        batch: examples `[B, *data]`.
        method: name of the method, if it is none of the usual ones.
        options: further arguments of the method, such as `M_N=0.00025`; a parameter `z` is given the posterior's mean.

    Returns:
        The loss as `loss(x, x_hat, mu, logvar)`, and `data_shape`, `latent_dim`, `batch_size` for `audit_loss`.

    Raises:
        ArgumentError: if the module has no such method, or its parts cannot be told.
    """
    loss_method = _method(module, method)
    parts = _tensors(_called(module, batch))
    flat = [t for t in parts if t.ndim == 2 and len(t) == len(batch) and t[0].numel() != batch[0].numel()]
    codes = [t for t in flat if sum(t.shape == other.shape for other in flat) >= 2]
    if not codes:
        shapes = ", ".join(str(tuple(t.shape)) for t in parts)
        raise ArgumentError(
            f"the module must return its posterior, two tensors [B, d]; got {shapes}. Pass a lambda to audit_loss instead."
        )
    sizes = {"data_shape": tuple(batch.shape[1:]), "latent_dim": codes[0].shape[1], "batch_size": len(batch)}
    order = _order(loss_method, options)

    def loss(x: Tensor, x_hat: Tensor, mu: Tensor, logvar: Tensor) -> Any:
        known = {"x": x, "x_hat": x_hat, "mu": mu, "logvar": logvar}
        if order is None:
            return loss_method(x_hat, x, mu, logvar, **options)
        return loss_method(**{parameter: known[role] for parameter, role in order.items()}, **options)

    return loss, sizes


def _called(module: nn.Module, batch: Tensor) -> Any:
    """Call the module in eval mode, so that no running statistics move; restore the mode after."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return module(batch)
    finally:
        module.train(was_training)


def _method(module: nn.Module, method: str | None) -> Callable[..., Any]:
    for name in (method,) if method else METHODS:
        candidate = getattr(module, name, None)
        if callable(candidate):
            chosen: Callable[..., Any] = candidate
            return chosen
    raise ArgumentError(
        f"the module must have a method {method or ' or '.join(METHODS)}; it has none. Pass a lambda to audit_loss instead."
    )


def _order(loss_method: Callable[..., Any], options: dict[str, Any]) -> dict[str, str] | None:
    """Role of each parameter; `None` for a method of `*args`."""
    parameters = inspect.signature(loss_method).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in options]
    names = [p.name for p in named]
    if not names:
        return None
    roles = {role: next((n for n in names if n.lower() in known), None) for role, known in NAMES.items()}
    lacking = [role for role, name in roles.items() if name is None]
    spare = [p.name for p in named if p.name not in roles.values() and p.default is p.empty]
    order = {name: role for role, name in roles.items() if name is not None} | {n: "mu" for n in spare if n == "z"}
    if not lacking and set(spare) - {"z"}:
        raise ArgumentError(
            f"the loss method also needs {', '.join(n for n in spare if n != 'z')}. Pass them: module_loss(..., {spare[0]}=...)."
        )
    if lacking:
        raise ArgumentError(
            f"the loss method must name {', '.join(NAMES)}; of its parameters ({', '.join(names)}) none is {', '.join(lacking)}. "
            "Pass a lambda to audit_loss instead."
        )
    return order


def _tensors(returned: Any) -> list[Tensor]:
    if isinstance(returned, Tensor):
        return [returned]
    entries = (
        returned.values()
        if hasattr(returned, "values")
        else returned
        if isinstance(returned, tuple | list)
        else vars(returned).values()
    )
    return [tensor for entry in entries for tensor in ([entry] if isinstance(entry, Tensor) else [])]
