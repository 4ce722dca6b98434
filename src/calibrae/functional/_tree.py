"""Chow-Liu tree: the best tree of pairwise dependences between discrete columns, and its exact probability of any observed cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..errors import ArgumentError

ROOT_COUNT, PAIR_COUNT = 1.0, 0.1  # added to the counts of levels and of pairs, so that none is impossible
ROWS = 4096


@final
@dataclass(frozen=True)
class Tree:
    """Tree (or forest) over discrete columns.

    Attributes:
        parents: parent of each column; -1 for a root.
        order: columns, each after its parent.
        tables: log-probabilities of each column's levels, `[L]` of a root and `[L_parent, L]` of another, nats.
    """

    parents: tuple[int, ...]
    order: tuple[int, ...]
    tables: tuple[Tensor, ...]

    def log_prob(self, levels: Tensor) -> Tensor:
        """Log-probability of the observed cells of each row, exactly: missing ones are summed over.

        Args:
            levels: whole numbers `[N, D]`; -1 where a cell is missing.

        Returns:
            `[N]`, nats, float64.
        """
        return torch.cat([self._log_prob(rows) for rows in levels.split(ROWS)])

    def _log_prob(self, levels: Tensor) -> Tensor:
        total = torch.zeros(len(levels), dtype=torch.float64)
        messages: dict[int, Tensor] = {}
        for child in reversed(self.order):
            parent, table = self.parents[child], self.tables[child]
            belief = messages.pop(child, torch.zeros(len(levels), table.shape[-1], dtype=torch.float64))
            known = levels[:, child] >= 0
            possible = (
                torch.nn.functional.one_hot(levels[:, child].clamp_min(0), table.shape[-1]).bool() | ~known[:, None]
            )
            belief = belief.masked_fill(~possible, -torch.inf)
            if parent < 0:
                total = total + (table + belief).logsumexp(-1)
                continue
            message = (table[None] + belief[:, None, :]).logsumexp(-1)
            messages[parent] = messages.get(parent, torch.zeros_like(message)) + message
        return total


def chow_liu(levels: Tensor, counts: Sequence[int]) -> Tree:
    r"""Tree whose edges have the greatest mutual information.

    $$p(x) = \prod_j p(x_j | x_{\mathrm{parent}(j)})$$

    Convention: probabilities of levels are (count + 1) of a root, (count + 0.1) of a pair, normalised. An edge whose information does
    not exceed $(L_a - 1)(L_b - 1) \log N / 2N$ is left out, so the result may be a forest.

    Args:
        levels: whole numbers `[N, D]`; -1 where a cell is missing. Pairs are counted where both cells are there.
        counts: number of levels of each column.

    Returns:
        The tree.

    Raises:
        ArgumentError: if there is no row or no column.

    References:
        Chow & Liu 1968, https://doi.org/10.1109/TIT.1968.1054142

    Examples:
        >>> tree = chow_liu(torch.tensor([[0, 0], [1, 1]] * 20), (2, 2))
        >>> tree.parents
        (-1, 0)
        >>> tree.log_prob(torch.tensor([[0, -1]])).exp()
        tensor([0.5000], dtype=torch.float64)
    """
    if levels.ndim != 2 or not levels.numel():
        raise ArgumentError(f"a tree needs rows [N, D] of levels; got {tuple(levels.shape)}.")
    width = len(counts)
    pairs = {(a, b): _pair(levels, counts, a, b) for a in range(width) for b in range(a + 1, width)}
    weights = {pair: _information(table) for pair, table in pairs.items()}
    parents, order = _spanning(weights, width)
    tables = []
    for j, parent in enumerate(parents):
        if parent < 0:
            own = levels[:, j][levels[:, j] >= 0].bincount(minlength=counts[j]).double() + ROOT_COUNT
            tables.append((own / own.sum()).log())
            continue
        joint = pairs[parent, j] if parent < j else pairs[j, parent].T
        tables.append((joint / joint.sum(1, keepdim=True)).log())
    return Tree(tuple(parents), tuple(order), tuple(tables))


def _pair(levels: Tensor, counts: Sequence[int], a: int, b: int) -> Tensor:
    """Counts of pairs `[L_a, L_b]`, smoothed."""
    there = (levels[:, a] >= 0) & (levels[:, b] >= 0)
    flat = levels[there, a] * counts[b] + levels[there, b]
    return flat.bincount(minlength=counts[a] * counts[b]).reshape(counts[a], counts[b]).double() + PAIR_COUNT


def _information(table: Tensor) -> float:
    """Mutual information in nats; 0 where chance would give as much."""
    raw = table - PAIR_COUNT
    n = float(raw.sum())
    if n < 2:
        return 0.0
    p = raw / n
    independent = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    found = float(torch.where(p > 0, p * (p / independent.clamp_min(1e-300)).log(), 0.0).sum())
    freedom = (int((raw.sum(1) > 0).sum()) - 1) * (int((raw.sum(0) > 0).sum()) - 1)
    return found if found > 0.5 * freedom * float(torch.tensor(n).log()) / n else 0.0


def _spanning(weights: dict[tuple[int, int], float], width: int) -> tuple[list[int], list[int]]:
    """Parents and order of the forest of the greatest positive weights (Prim)."""
    parents, order = [-1] * width, list[int]()
    best = dict.fromkeys(range(width), (0.0, -1))
    while best:
        j = max(best, key=lambda i: (best[i][0], -i))
        parents[j] = best.pop(j)[1]
        order.append(j)
        for i in best:
            weight = weights[min(i, j), max(i, j)]
            if weight > best[i][0]:
                best[i] = (weight, j)
    return parents, order
