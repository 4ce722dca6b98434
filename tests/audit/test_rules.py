"""Rules as rows: their documentation, their messages, and the tolerances that they use."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import torch

from calibrae._types import SEVERITIES
from calibrae.audit import audit_loss
from calibrae.audit._rules import SECTIONS
from calibrae.audit._tolerances import Tolerance, Tolerances

ROOT = Path(__file__).parent.parent.parent
RULES = [rule for rules in SECTIONS.values() for rule in rules]
PAGE = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")


def make_pages():
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_findings_are_those_of_the_rules():
    assert make_pages().audit_page(PAGE) == PAGE
    rows = re.findall(r"^\| `([a-z-]+)` \| (error|warning|note) \|", PAGE, re.MULTILINE)
    assert rows == [(rule.code, rule.severity) for rule in RULES]


def test_a_row_has_all_that_a_reader_needs():
    assert len(RULES) > 50
    for rule in RULES:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+|raises", rule.code)
        assert rule.severity in SEVERITIES
        assert not rule.message.endswith(".")
        assert rule.remedy.endswith((".", "[-1]."))
        assert rule.documentation
        assert "{" not in rule.general_remedy
    assert len({(rule.code, rule.severity, rule.documentation) for rule in RULES}) == len(RULES)


def thresholds(tree):
    """Small numbers in comparisons."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from (
                part.value
                for part in ast.walk(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, float) and 0 < part.value < 0.1
            )


def test_every_threshold_stands_in_the_record_with_its_reason():
    known = {name: value for name, value in vars(Tolerances).items() if not name.startswith("_")}
    assert len(known) > 40
    sources = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "src/calibrae/audit").glob("*.py")}
    for name, tolerance in known.items():
        assert isinstance(tolerance, Tolerance)
        assert len(tolerance.reason) > 20
        assert tolerance.single is None or tolerance.single > tolerance.value
        assert any(f"Tolerances.{name}" in text for text in sources.values()), name
    assert list(thresholds(ast.parse("a < 1e-3 * b"))) == [1e-3]
    for file, text in sources.items():
        assert list(thresholds(ast.parse(text))) == [], file


def test_a_tolerance_knows_its_precision():
    assert Tolerance(1.0, "why", 2.0).at(torch.float64) == 1.0
    assert Tolerance(1.0, "why", 2.0).at(torch.float32) == 2.0
    assert Tolerance(1.0, "why").at(torch.float32) == 1.0


def sse(x, x_hat):
    return 0.5 * (x - x_hat).flatten(1).square().sum(1)


def each_kl(mu, logvar):
    return -0.5 * (1 + logvar - mu**2 - logvar.exp())


def kl(mu, logvar):
    return each_kl(mu, logvar).sum(1)


WEIGHTS = torch.tensor([1.0, 2.0, 4.0])
RARE = {
    ("batch-reduction-unusual", "note", "B^1"): lambda x, v, mu, lv: len(x) * (sse(x, v) + kl(mu, lv)).sum(),
    ("not-additive", "warning", "moves with the reconstruction"): lambda x, v, mu, lv: (
        (1 + sse(x, v).mean()) * (1 + kl(mu, lv).mean())
    ),
    ("kl-uneven-latents", "warning", "not all latents weigh alike"): lambda x, v, mu, lv: (
        sse(x, v) + each_kl(mu, lv) @ WEIGHTS.to(mu)
    ).mean(),
    ("kl-uneven-examples", "warning", "not all examples weigh alike"): lambda x, v, mu, lv: (
        sse(x, v) + kl(mu, lv) * torch.linspace(1, 3, len(x), dtype=x.dtype)
    ).mean(),
    ("weight-depends-on-data", "warning", "contrast of the data"): lambda x, v, mu, lv: (
        sse(x, v) / (1 + x.std()) + kl(mu, lv)
    ).mean(),
    ("kl-gradient-differs", "warning", "autograd says"): lambda x, v, mu, lv: (
        sse(x, v) + 0.5 * kl(mu, lv) + 0.5 * kl(mu, lv).detach()
    ).mean(),
    ("reconstruction-gradient-differs", "warning", "autograd says"): lambda x, v, mu, lv: (
        0.5 * sse(x, v) + 0.5 * sse(x, v).detach() + kl(mu, lv)
    ).mean(),
    ("kl-minimum-off-prior", "error", "least at a posterior mean of 1"): lambda *a: float(
        (sse(*a[:2]) + kl(a[2] - 1, a[3])).mean()
    ),
    ("x-hat-space", "note", "fits as logits, not as data"): lambda x, v, mu, lv: (
        (x - v.sigmoid()).square().sum() + kl(mu, lv).sum()
    ),
}


@pytest.mark.parametrize("expected", RARE, ids=lambda expected: " ".join(expected[:2]))
def test_rules_that_the_corpus_does_not_use(expected):
    code, severity, part = expected
    record = audit_loss(RARE[expected], data_shape=(1, 4, 4), latent_dim=3, batch_size=4)
    assert any((f.code, f.severity) == (code, severity) and part in f.message for f in record.findings), record.findings
