"""Means of what steps sum up."""

from __future__ import annotations

from ..likelihoods import Scale


def means_of(sums: dict[str, float], scale: Scale | None) -> dict[str, float]:
    """Means per example of a step's sums, with the root mean squared error and the scale in use.

    Args:
        sums: by name, with the number of examples `n` and the squared error per dimension `mse`, where it says something.
        scale: scale of the likelihood, if it has one. Of an optimal one the residuals are its value.

    Examples:
        >>> means_of({"n": 4.0, "loss": 8.0, "mse": 1.0}, None)
        {'loss': 2.0, 'rmse': 0.5}
    """
    n = sums["n"]
    means = {name: value / n for name, value in sums.items() if name not in ("n", "mse")}
    if "mse" not in sums:
        return means
    rmse = (sums["mse"] / n) ** 0.5
    if scale is None:
        return means | {"rmse": rmse}
    in_use = scale.std() if scale.is_fixed else max(rmse, scale.statistic.std_per_scale * scale.floor)
    return means | {"rmse": rmse, "sigma": in_use}
