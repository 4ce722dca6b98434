"""`calibrae bits`: reported likelihoods, as they are typed."""

import json

import pytest
from command import call


def test_a_negative_number_is_a_value(capsys):
    code, out, _ = call(capsys, "bits", "-2676.1", "--from", "/256", "--data-shape", "3,32,32")
    assert code == 0
    assert out.startswith("6.743 bits per dimension")


def test_a_log_likelihood_has_the_other_sign(capsys):
    place = ("--from", "/256", "--data-shape", "3,32,32", "--json")
    _, one, _ = call(capsys, "bits", "-2676.1", *place)
    _, two, _ = call(capsys, "bits", "2676.1", "--log-likelihood", *place)
    assert json.loads(one) == json.loads(two)


def test_the_term_of_a_logit_comes_from_the_data(capsys):
    code, out, _ = call(
        capsys, "bits", "1.5", "--from", "logit", "--unit", "nats-per-dim", "--alpha", "0.05", "--data", "digits"
    )
    assert code == 0
    assert "bits per dimension" in out
    assert "2 u / 16 - 1" in out


def test_the_catalogue_names_its_sources(capsys):
    _, out, _ = call(capsys, "bits", "--list")
    assert "arXiv:1511.01844" in out
    _, out, _ = call(capsys, "bits", "--list", "--json")
    assert {row["name"] for row in json.loads(out)["scales"]} >= {"/256", "/255", "[-1,1]", "logit", "integers"}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("3",),
        ("3", "--from", "nowhere", "--data-shape", "2"),
        ("3", "--from", "logit", "--data-shape", "2"),
        ("3", "--frm", "/256", "--data-shape", "2"),
        ("3", "--from", "/256", "--data-shape", "2", "--unit", "decibels"),
    ],
)
def test_what_cannot_be_read_is_one_line(capsys, arguments):
    code, out, err = call(capsys, "bits", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
