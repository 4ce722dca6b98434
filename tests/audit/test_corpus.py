"""An audit of every loss whose truth is known by construction."""

import json
from pathlib import Path

import pytest
from corpus import all_cases, found

from calibrae.audit import audit_loss

CASES = all_cases()
KEPT = json.loads((Path(__file__).parent / "found.json").read_text(encoding="utf-8"))


def test_the_corpus_is_large_enough():
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("batch_size", [3, 4, 5, 7, 8])
@pytest.mark.parametrize("latent_dim", [3, 5, 6])
def test_a_kl_of_averages_is_told_in_any_number_of_examples(batch_size, latent_dim):
    case = next(case for case in CASES if case.name == "KL of the batch's average")
    record = audit_loss(case.loss, batch_size=batch_size, data_shape=(6,), latent_dim=latent_dim)
    assert "kl-not-a-kl" in record.codes()
    assert not [code for code in record.codes() if code.startswith("kl-uneven")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_audit_finds_the_truth(case):
    record = audit_loss(case.loss, **case.arguments)
    for name, expected in case.truth.items():
        value = getattr(record, name)
        if isinstance(expected, float):
            assert value == pytest.approx(expected, rel=0.01), name
        elif isinstance(expected, dict):
            assert value == {**expected, "constant": pytest.approx(expected["constant"], rel=0.01)}, name
        else:
            assert value == expected, name
    assert set(case.codes) <= set(record.codes())
    assert not (case.honest and record.codes("error")), record.findings
    assert case.honest or record.codes("error") or record.codes("warning")
    kept = KEPT[case.name]  # what the table of docs/audit.md counts
    assert found(case, record) == {**kept, "off": pytest.approx(kept["off"], abs=1e-4)}
