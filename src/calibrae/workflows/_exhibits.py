"""Pictures and tables of a report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._types import Split
from ..errors import CalibraeError, first_line
from ..evaluation import Evidence, attribute, linear_curve, split_bounds, training_spectrum
from ..figures import save_calibration, save_curves, save_latents, save_marginals, save_rate, save_scores, shrunk
from ..figures.page import Figure, Section, Table, curves_plot, packed
from ..functional import beta_in_conventions
from ._codes import FEWEST, Method, code_map, has_umap
from ._column_exhibits import column_rows, draw_missing, draw_pairs
from ._draw import interpolate, reconstruct, sample, traverse
from ._over import save_rows_over_data
from ._picture import save_picture
from ._records import stored_request
from ._run import Run

SCORED, SCORE_SAMPLES = 200, 20
EACH = 6  # best, typical and worst examples
COLUMNS, STEPS = 8, 11


class Exhibits:
    """All that a report shows of a run; what cannot be drawn is said in its place.

    Args:
        run: the run.
        evidence: its numbers.
        split: split that is shown.
        seed: seed of all noise.
    """

    def __init__(self, run: Run, evidence: Evidence, split: Split, seed: int) -> None:
        self.run, self.evidence, self.split, self.seed = run, evidence, split, seed
        self.model, self.data = run.model, run.data
        self.names = self.data.source.columns
        self.is_table = len(self.data.spec.data_shape) == 1
        self.failed: list[tuple[str, str]] = []

    def all(self) -> tuple[list[Figure], list[Section]]:
        """Pictures of the first screen, and the sections under it."""
        curves = self._drawn("Curves", self._curves)
        rebuilt = self._drawn("Reconstructions", self._reconstructions)
        samples = self._drawn("Samples", self._samples)
        noisy = self._drawn("Samples with observation noise", self._noisy)
        walks = self._drawn("Traversal", self._traversal)
        between = self._drawn("Interpolation", self._interpolation)
        latents = self._drawn("KL of each latent", self._latents)
        calibrated = self._drawn("Calibration", self._calibration)
        rate = self._drawn("Rate and distortion", self._rate)
        where = self._drawn("Map of the latents", self._map)
        near = self._drawn("Map of neighbours", self._neighbours)
        umap = self._drawn("Map by UMAP", self._umap)
        unusual = self._drawn("Most unusual examples", self._unusual)
        over = self._drawn("Samples over the data", self._marginals)
        pairs = self._drawn("Pairs of columns", self._pairs)
        missing = self._drawn("Missing cells", self._missing)
        kinds = [curves, *([over] if self.is_table else [samples]), rebuilt, walks, latents, where]
        sections = [
            Section("Curves", figures=_there(curves), tables=self._beta_tables()),
            Section(
                "Reconstructions",
                "Examples with their reconstruction at the posterior mean, by log p(x).",
                _there(rebuilt),
            ),
            Section("Samples", figures=_there(over if self.is_table else None, samples, noisy, between)),
            Section("Columns", figures=_there(pairs, missing), tables=self._column_tables()),
            Section("Latents", self._latent_sentence(), _there(latents, rate, walks, where, near, umap)),
            Section(
                "Calibration",
                "" if self.evidence.calibration is None else self.evidence.calibration.sentence,
                _there(calibrated),
            ),
            Section("Most unusual examples", figures=_there(unusual)),
        ]
        sections = [section for section in sections if section.figures or section.tables]
        if self.failed:
            sections.append(
                Section(
                    "Not shown", "What this model or these data cannot show, and why.", tables=[Table((), self.failed)]
                )
            )
        return [figure for figure in kinds if figure is not None], sections

    def _drawn(self, title: str, draw: Callable[[Path], Figure | None]) -> Figure | None:
        """A picture, or a line that says why there is none: no picture takes a report down."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = draw(Path(folder) / "x.png")
                return None if found is None else replace(found, png=packed(found.png))
            except (
                Exception
            ) as error:  # whatever a picture stumbles over, as damaged data and large pictures do in many ways
                self.failed.append((title, first_line(error)))
                return None

    def _save(self, x: Tensor, path: Path, **how: Any) -> bytes:
        restore = self.data.preparation.restore
        if how.get("reference") is not None:
            how["reference"] = shrunk(restore(how["reference"]))
        return save_picture(
            shrunk(restore(x)), path, names=self.names, fields=self.data.source.schema.fields, **how
        ).read_bytes()

    # -- pictures

    def _curves(self, path: Path) -> Figure:
        history = self.run.history
        png = save_curves(history, path).read_bytes()
        alt = f"Objective, reconstruction, KL, residual and learning rate over {len(history)} epochs."
        return Figure(
            "Training (grey) and validation (blue) over epochs, nats", png, alt, plot=curves_plot(history), is_wide=True
        )

    def _reconstructions(self, path: Path) -> Figure:
        rows = self._chosen()
        batch = self.data.gather(self.split, self._positions[rows], self.seed)
        x_hat = reconstruct(self.model, batch.x, batch.context)
        how: dict[str, Any] = {
            "title": "data and reconstruction",
            "captions": self.data.names_at(self.split, self._positions[rows]),
        }
        if self._bounds is not None and len(rows) == 3 * EACH:
            how["title"] += ", with log p(x) in nats"
            how["captions"] = [f"{float(self._bounds[i]):.0f}" for i in rows]
            how["rows"] = ("best", "model", "typical", "model", "worst", "model")
        png = self._save(x_hat, path, columns=EACH, reference=batch.x, **how)
        return Figure(
            "Best, typical and worst reconstructions", png, f"{len(rows)} examples above their reconstructions."
        )

    def _samples(self, path: Path) -> Figure | None:
        return self._sampled(path, noise=False) if self.model.is_probabilistic else None

    def _noisy(self, path: Path) -> Figure | None:
        return self._sampled(path, noise=True) if self.model.is_probabilistic and not self.is_table else None

    def _sampled(self, path: Path, *, noise: bool) -> Figure:
        count = 500 if self.is_table else 4 * COLUMNS
        kind = "with observation noise, from p(x)" if noise else "means of p(x|z)"
        png = self._save(self._draws(count, noise=noise), path, columns=COLUMNS, title=f"{count} samples, {kind}")
        return Figure(f"Samples, {kind}", png, f"{count} samples of the model.")

    def _draws(self, count: int, *, noise: bool) -> Tensor:
        return sample(self.model, count, self._contexts(count), noise=noise, seed=self.seed)

    def _contexts(self, count: int) -> Tensor | None:
        known = self.data.contexts(self.split)
        if known is None:
            return None
        return known[torch.linspace(0, len(known) - 1, count).long()]

    def _marginals(self, path: Path) -> Figure | None:
        if not self.is_table or not self.model.is_probabilistic:
            return None
        if self.data.spec.columns:
            made = self.data.preparation.in_units(self._draws(2000, noise=True))
            png = save_rows_over_data(self.data, self.split, made, path).read_bytes()
            return Figure(
                "Samples (blue) over the data (grey), column by column", png, "A panel for each column.", is_wide=True
            )
        restore, rows = self.data.preparation.restore, min(2000, len(self.data.view(self.split)))
        data = torch.cat([batch.x for batch in self.data.batches(self.split, 1024, self.seed, rows)])
        drawn = self._draws(2000, noise=True)
        names = self.names or [f"element {i + 1}" for i in range(data.shape[1])]
        png = save_marginals(restore(data), restore(drawn), path, names).read_bytes()
        return Figure(
            "Samples (blue) over the data (grey), column by column",
            png,
            f"Histograms of {min(24, len(names))} columns.",
            is_wide=True,
        )

    def _pairs(self, path: Path) -> Figure | None:
        if not (self.data.spec.columns and self.model.is_probabilistic):
            return None
        found = draw_pairs(self.data, self.split, self.data.preparation.in_units(self._draws(2000, noise=True)), path)
        title = "Pairs of columns that hang together most: rows that came, and rows that were drawn"
        return None if found is None else Figure(title, found.read_bytes(), "Two panels for each pair.", is_wide=True)

    def _missing(self, path: Path) -> Figure | None:
        found = draw_missing(self.data, self.split, path) if self.data.spec.columns else None
        title = "Missing cells, rows that lack the same ones side by side"
        return None if found is None else Figure(title, found.read_bytes(), "A line for each row.")

    def _column_tables(self) -> list[Table]:
        """What each column of a mixed table was taken for, and what it costs."""
        if not self.data.spec.columns:
            return []
        found = attribute(self.model, [self.data.gather(self.split, self._positions, self.seed)]).per_element
        return [column_rows(self.data, self.split, None if found is None else found.double().numpy())]

    def _traversal(self, path: Path) -> Figure:
        walks = traverse(self.model, self.data, n=8, steps=STEPS)
        png = self._save(
            walks.x,
            path,
            columns=STEPS,
            walks=True,
            title="each latent from -3 to 3 standard deviations",
            rows=walks.ranking.labels,
        )
        note = f"Sorted by {walks.ranking.by}."
        return Figure(
            "Traversal of the latents", png, "Each row changes one latent, the others stay at the prior's mean.", note
        )

    def _interpolation(self, path: Path) -> Figure:
        chosen = self._chosen()
        two = chosen[EACH : EACH + 2] if len(chosen) == 3 * EACH else chosen[:2]
        corners = self.data.gather(self.split, self._positions[two], self.seed)
        png = self._save(
            interpolate(self.model, corners, STEPS),
            path,
            columns=STEPS,
            walks=True,
            title="between two examples",
        )
        return Figure(
            "Interpolation in the latent space", png, f"{STEPS} points on the way between the codes of two examples."
        )

    def _latents(self, path: Path) -> Figure | None:
        found = self.evidence.latents
        if found is None or found.kl_per_dim is None:
            return None
        png = save_latents(found.kl_per_dim, found.posterior_mean_variance, path).read_bytes()
        return Figure(
            "KL and variance of each latent", png, f"{found.active_units} of {len(found.active)} latents are active."
        )

    def _calibration(self, path: Path) -> Figure | None:
        found = self.evidence.calibration
        if found is None:
            return None
        png = save_calibration(found.overall.pit, found.element_spread, path).read_bytes()
        return Figure("Calibration of the density", png, found.sentence, is_wide=True)

    def _map(self, path: Path) -> Figure | None:
        return self._mapped(path, "pca", "on their first two principal components")

    def _neighbours(self, path: Path) -> Figure | None:
        return self._mapped(path, "t-sne", "by t-SNE, which keeps neighbours together; distances and sizes say nothing")

    def _umap(self, path: Path) -> Figure | None:
        if not has_umap():
            return None
        return self._mapped(path, "umap", "by UMAP, which keeps neighbours together; distances and sizes say nothing")

    def _mapped(self, path: Path, method: Method, how: str) -> Figure | None:
        if self.model.latent_dim < 2 or len(self.data.view(self.split)) < (3 if method == "pca" else FEWEST):
            return None
        found = code_map(self.model, self.data, self.split, self.seed, method)
        found.draw(path)
        title = f"Map of {len(found.points):,} codes, coloured {found.by}, {how}"
        return Figure(title, path.read_bytes(), f"Posterior means {how}.", plot=found.plot())

    def _rate(self, path: Path) -> Figure | None:
        """Rate and distortion beside the best linear codes, which squared errors and an unconditional model have."""
        e, scale = self.evidence.test, self.model.likelihood.scale
        if (
            e.kl_nats is None
            or e.mse is None
            or self.model.context_dim
            or scale is None
            or self.data.spec.preparation == "binarise"
        ):
            return None
        sse, spectrum = e.mse * self.data.spec.data_dim, training_spectrum(self.data, self.model.latent_dim)
        linear = linear_curve(spectrum, self.model.latent_dim, 1.4 * max(e.kl_nats, 1.0))
        png = save_rate(e.kl_nats, sse, linear, path).read_bytes()
        alt = f"A rate of {e.kl_nats:.1f} nats leaves a squared error of {sse:.4g}; the line is what the best linear codes leave."
        return Figure(
            "Rate and distortion beside the best linear codes", png, alt, "Below the line is better than linear."
        )

    def _unusual(self, path: Path) -> Figure | None:
        if self._bounds is None:
            return None
        rows = self._bounds.argsort()[:8]
        found = attribute(self.model, [self.data.gather(self.split, self._positions[rows], self.seed)])
        if found.per_element is None:
            return None
        names = self.data.names_at(self.split, self._positions[rows])
        titles = [f"{name}: {float(self._bounds[i]):.0f} nats" for name, i in zip(names, rows, strict=True)]
        png = save_scores(found.x, found.x_hat, found.per_element, titles, path, self.names).read_bytes()
        note = f"Of {len(self._bounds):,} examples, by log p(x), with samples K = {SCORE_SAMPLES}."
        return Figure(
            "The least likely examples, their reconstructions, and where they differ",
            png,
            "Eight examples.",
            note,
            is_wide=True,
        )

    # -- numbers

    @cached_property
    def _positions(self) -> Tensor:
        return self.data.positions(self.split, SCORED)

    @cached_property
    def _bounds(self) -> Tensor | None:
        """Importance-weighted log p(x) of some examples; `None` for a plain autoencoder."""
        if not self.model.is_probabilistic:
            return None
        return split_bounds(
            self.model, self.data, self.split, SCORE_SAMPLES, seed=self.seed, limit=SCORED
        ).log_likelihood

    def _chosen(self) -> Tensor:
        """Some of the best, typical and worst of the examples that were scored."""
        count = len(self._positions)
        if self._bounds is None or count < 3 * EACH:
            return torch.arange(min(3 * EACH, count))
        order, middle = self._bounds.argsort(descending=True), count // 2
        return torch.cat([order[:EACH], order[middle - EACH // 2 : middle + EACH // 2], order[-EACH:]])

    def _beta_tables(self) -> list[Table]:
        """The weight of the KL in other conventions; none of an objective without one, or of a class that is not at hand."""
        try:
            return [self._beta_table()] if self.model.is_probabilistic else []
        except CalibraeError as error:
            self.failed.append(("Effective beta", first_line(error)))
            return []

    def _beta_table(self) -> Table:
        weights = stored_request(self.run.folder).make_objective(self.model.objective).final_weights()
        beta = weights.get("beta", 1.0)
        scale, spec = self.model.likelihood.scale, self.data.spec
        fixed = round(scale.summary(), 9) if scale is not None and scale.choice == "fixed" else None
        family = {"GaussianLikelihood": "gaussian", "BernoulliLikelihood": "bernoulli"}.get(
            type(self.model.likelihood).__name__
        )
        rows = [("nll (this run)", f"{beta:.4g}")]
        if family is not None:
            known = beta_in_conventions(beta, spec.data_dim, self.model.latent_dim, fixed, likelihood=family)
            rows += [(name, f"{value:.4g}") for name, value in known.items()]
        return Table(("convention", "beta"), rows, "Effective beta in the conventions of other code")

    def _latent_sentence(self) -> str:
        return "" if self.evidence.latents is None else self.evidence.latents.sentence


def _there(*figures: Figure | None) -> list[Figure]:
    return [figure for figure in figures if figure is not None]
