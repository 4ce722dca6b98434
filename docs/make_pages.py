"""Write the pages that are made from data: conventions.md from the catalogue, the tables of audit.md from its rules and its corpus.

Run it from the repository: `python docs/make_pages.py`. The tests compare the pages with what it would write. What the audits found is kept in
`tests/audit/found.json`, where the test of every loss compares it with what it finds.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from calibrae.functional.conventions import Convention, catalogue, total_variances, translate

TERMS = {
    "Gaussian: the full negative log-likelihood": ("nll",),
    "Squared error": ("sse",),
    "Cross-entropy": ("bce", "ce"),
    "Absolute error, log cosh, spectra": ("sae", "log-cosh", "spectral"),
}
DOCS = Path(__file__).parent
CORPUS = DOCS.parent / "tests" / "audit"
START, END = "<!-- made by make_pages.py: {} -->", "<!-- end -->"


def conventions_page() -> str:
    """The page of the catalogue."""
    tables = "\n\n".join(_table(title, terms) for title, terms in TERMS.items())
    return f"""# What a beta means

*This page is made from the catalogue `calibrae/functional/conventions/conventions.toml` by `docs/make_pages.py`.*

"Sum or mean, and why this KL weight?" Any Gaussian-type loss is, per example, $a\\,\\mathrm{{SSE}} + b\\,\\mathrm{{KL}}$: the squared error
summed over the $D$ data dimensions, the KL summed over the $d$ latents. Only the ratio moves the optimum:

$$\\rho = \\frac{{b}}{{a}} = 2\\sigma^2\\beta$$

is the squared error that the model accepts to save one nat. A Gaussian decoder with $\\beta = 1$ and $\\sigma = \\sqrt{{\\rho/2}}$ has the same
optimum. Averaging the squared error multiplies $\\rho$ by $D$; averaging the KL divides it by $d$; leaving out the half of one doubles or
halves it. That is why betas of different repositories differ by factors of thousands.

```
calibrae beta 0.00025 --from mse --data-shape 3,64,64 --latent-dim 128
calibrae beta 4 --from bce --data-shape 784 --latent-dim 10 --json
calibrae beta 0.1 --from mse-mean-kl --data photos/ --latent-dim 64     # and what it means for your data
calibrae beta --list
calibrae train cifar10 --out RUN --model vae --sigma 1 --beta 0.00025 --beta-convention mse
```

The first prints (shortened)

```
rho             3.072       squared error that one nat is worth
sigma           1.2394      of a Gaussian decoder at beta 1
sigma, grey     316.04      the same in 8-bit grey levels
KL at most      349.61      nats, on CelebA 64
One nat is worth a squared error of 3.072 (sigma 1.239 at beta 1), and only what changes a whole picture is worth coding: expect blurred means and few used latents.

equal balance in other losses, on these data
  half-sse                  1.536         SSE / 2 + beta * KL
  mse-mean-kl               0.032         MSE + w * KL / d
  ...
```

that is: 0.00025 in a repository that averages the squared error (`mse`) is the model that another one calls beta = 1.536, where half the
squared error is summed (`half-sse`). Sigma is wider than the whole range of the pixels (316 of 255 grey levels); whatever the network, it
cannot spend more than 350 nats on a face of CelebA (the nat budget, below).

```python
from calibrae.functional import conventions

found = conventions.translate(0.00025, "mse", data_shape=(3, 64, 64), latent_dim=128)
print(found.rho, found.sigma, found.equivalents["half-sse"])  # 3.072 1.2394 1.536
```

* A **full Gaussian NLL** (`nll` and its relatives) states its own sigma; with a learned or optimal sigma $\\sigma^2 = \\mathrm{{MSE}}$ at the
  optimum whatever beta is, so beta is free of the data's scale.
* **Bernoulli and categorical** terms have no scale: $b/a$ is beta outright. An **absolute error** implies a Laplace decoder of scale $b/a$.
* For a **categorical** term `D` counts the positions, not the letters of the alphabet: `--data-shape 36` for 36 tokens.
* **Rescaled data**: for $x' = c x$, $\\rho' = c^2\\rho$ and $\\sigma' = c\\sigma$. From [0, 1] to [-1, 1] rho grows 4 times, to [0, 255] 65,025 times.
* **The nat budget**: a decoder that ignores `z` reaches SSE = $V$, the total variance of the data, with KL = 0. At the optimum therefore
  $\\mathrm{{KL}} \\le V/\\rho$. On [0, 1], at most: {_variances()}.
* **A linear model** codes a direction of variance $\\lambda$ if and only if $\\lambda > \\rho/2$, with $\\tfrac12\\ln(2\\lambda/\\rho)$ nats, and
  leaves $\\min(\\lambda, \\rho/2)$ of it (`functional.linear_code`).

What a ratio does not carry: Adam ignores the common factor of a loss, but weight decay, gradient clipping, the learning rate of SGD and
any further term do not. Values can be compared only with their constants, $D\\ln\\sigma + \\tfrac D2\\ln 2\\pi$.

## The catalogue

| symbol | meaning |
|---|---|
| `SSE`, `SAE` | squared and absolute error, summed over an example's `D` data dimensions; `MSE` = `SSE / D` |
| `NLL`, `BCE`, `CE` | minus the Gaussian log-density with its constants, the binary and the categorical cross-entropy, summed likewise |
| `KL` | summed over the `d` latents; `KL / d` is its mean |
| `B`, `N`, `T` | batch size, examples of the data set, frames of a spectrogram |
| `sigma` in a formula | `s`: stated by the user; else learned, or computed from the residuals |
| beta, w, lambda, gamma | whatever the project calls the number that you give to `calibrae beta` |

The number before each name is its row in a survey of public code of 2016 to 2026; names without one are general forms. "At the default"
is what the default number implies at the sizes it was found with: sigma at beta 1 on the data's own range, beta for densities, the scale for absolute errors.

{tables}
"""


def _table(title: str, terms: tuple[str, ...]) -> str:
    chosen = sorted((c for c in catalogue().values() if c.term in terms), key=lambda c: (c.row == 0, c.row))
    head = "| row | name | loss per example | who | default | at the default | worked numbers |\n|---|---|---|---|---|---|---|"
    return "\n".join([f"### {title}", "", head, *map(_row, chosen)])


def _variances() -> str:
    return ", ".join(f"{name} $V$ = {value:g}" for name, (_, value) in total_variances().items())


def _row(c: Convention) -> str:
    formula = c.formula.replace("|", "\\|")
    data = "" if c.range == (0.0, 1.0) else f" on [{c.range[0]:g}, {c.range[1]:g}]"
    return f"| {c.row or ''} | `{c.name}` | `{formula}` | {c.who} | {c.symbol} = {c.default:g}{data} | {_at_default(c)} | {c.worked} |"


def _at_default(c: Convention) -> str:
    sizes = {"D": 3072.0, "d": 50.0, "B": 128.0, **c.typical}
    if c.term == "nll" and c.sigma in ("learned", "optimal", "data"):
        return "follows the residuals" if c.sigma != "data" else "follows the data"
    found = translate(
        c.default,
        c.name,
        data_shape=(int(sizes["D"]),),
        latent_dim=int(sizes["d"]),
        batch_size=int(sizes["B"]),
        sigma=c.typical.get("sigma"),
    )
    if found.sigma is not None:
        return f"sigma {found.sigma:.3g}"
    if found.beta is not None:
        return f"beta {found.beta:.3g}"
    return f"scale {found.laplace_scale:.3g}" if found.laplace_scale is not None else f"{found.ratio:.3g} a nat"


def _corpus() -> Any:
    """The module of the losses."""
    if str(CORPUS) not in sys.path:
        sys.path.insert(0, str(CORPUS))
    import corpus

    return corpus


def audit_corpus() -> None:
    """Audit every loss of the corpus and keep what was found."""
    from calibrae.audit import audit_loss

    corpus = _corpus()
    found = {case.name: corpus.found(case, audit_loss(case.loss, **case.arguments)) for case in corpus.all_cases()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in found.items())
    (CORPUS / "found.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def corpus_table() -> str:
    """What the audits of the corpus found, counted."""
    found = json.loads((CORPUS / "found.json").read_text(encoding="utf-8"))
    rows = [(case, found[case.name]) for case in _corpus().all_cases()]
    kinds, divergences = (
        Counter((case.truth[name], row[name]) for case, row in rows if name in case.truth)
        for name in ("reconstruction", "kl_kind")
    )
    honest = [row for case, row in rows if case.honest]
    broken = [row for case, row in rows if not case.honest or set(case.codes) & set(row["errors"])]
    expected = [code in row["errors"] + row["others"] for case, row in rows for code in case.codes]
    off = [error for _, row in rows for error in row["off"].values()]
    lines = [
        f"{len(rows)} losses, {len(honest)} of them honest.",
        "",
        "| | |",
        "|---|---|",
        f"| weights checked | {len(off)}, the worst off by {_percent(max(off))} |",
        f"| errors found in honest losses | {sum(bool(row['errors']) for row in honest)} of {len(honest)} losses |",
        f"| expected findings that were found | {sum(expected)} of {len(expected)} |",
        f"| dishonest losses with an error or a warning | {sum(bool(row['errors']) or row['warned'] for row in broken)} of {len(broken)} |",
        "",
        *_confusion("reconstruction", kinds),
        "",
        *_confusion("KL", divergences),
    ]
    return "\n".join(lines)


def _percent(error: float) -> str:
    return "less than 0.01 %" if error < 1e-4 else f"{100 * error:.2g} %"


def _confusion(name: str, counts: Counter[tuple[str, str | None]]) -> list[str]:
    found = sorted({str(f) for _, f in counts})
    lines = [f"| {name}: truth, down; found, across | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    for truth in sorted({t for t, _ in counts}):
        cells = " | ".join(str(counts.get((truth, f), "")) for f in found)
        lines += [f"| {truth} | {cells} |"]
    return lines


def findings_tables() -> str:
    """Every rule of the audit, a row each."""
    from calibrae.audit._rules import SECTIONS

    head = "| code | severity | what is wrong, or worth knowing | what to do |\n|---|---|---|---|"
    tables = (
        "\n".join([f"### {title}", "", head, *(_finding_row(rule) for rule in rules)])
        for title, rules in SECTIONS.items()
    )
    return "\n\n".join(tables)


def _finding_row(rule: Any) -> str:
    cells = (f"`{rule.code}`", rule.severity, rule.documentation, rule.general_remedy.replace("*", "\\*"))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def audit_page(current: str) -> str:
    """The hand-written page with its tables made anew."""
    for name, made in (("findings", findings_tables), ("corpus", corpus_table)):
        start = START.format(name)
        block = f"{start}\n{made()}\n{END}"
        current = re.sub(rf"{start}.*?{END}", lambda _, block=block: block, current, flags=re.S)
    return current


if __name__ == "__main__":
    (DOCS / "conventions.md").write_text(conventions_page(), encoding="utf-8")
    audit_corpus()
    page = DOCS / "audit.md"
    page.write_text(audit_page(page.read_text(encoding="utf-8")), encoding="utf-8")
