"""Several condition columns on the command line and in Python: trained, resumed, evaluated, sampled."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from command import call

import calibrae as cb
from calibrae.errors import ArgumentError, DataError

RNG = np.random.default_rng(0)
N = 400
SEX, AGE = np.array(["f", "m"])[RNG.integers(0, 2, N)], RNG.integers(18, 80, N)
FRAME = pd.DataFrame(
    {
        "height": RNG.normal(170, 5, N) + 12 * (SEX == "m"),
        "sex": SEX,
        "hair": np.where(RNG.random(N) < AGE / 90, "grey", "brown"),
        "age": AGE,
    }
)
WORDS = (
    "--epochs",
    "2",
    "--hidden",
    "8",
    "--latent-dim",
    "2",
    "--compile",
    "off",
    "--precision",
    "fp32",
    "--no-report",
)


CONDITIONS = ("--condition", "sex", "--condition", "age")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from calibrae.cli._main import main

    folder = tmp_path_factory.mktemp("several")
    FRAME.to_csv(folder / "people.csv", index=False)
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(folder / "people.csv"), "--out", str(folder / "run"), *CONDITIONS, *WORDS])
    assert stopped.value.code == 0
    return folder / "run"


def sampled(capsys, run, place, *words):
    code, printed, said = call(capsys, "sample", run, "-n", "40", "--out", place, *words)
    return code, printed + said, pd.read_csv(place) if code == 0 else None


def test_the_coding_is_stored_and_other_tables_are_read_by_it(run, tmp_path):
    opened = cb.open_run(run)
    assert opened.condition.names == ("sex", "age")
    same = cb.evaluate(opened, split="all")
    assert same.baseline is not None
    FRAME.sample(frac=1, random_state=0).to_csv(tmp_path / "other.csv", index=False)
    assert cb.evaluate(opened, tmp_path / "other.csv").elbo_nats == pytest.approx(same.elbo_nats, abs=0.1)
    with pytest.raises(DataError, match="no column 'age' for the condition"):
        cb.evaluate(opened, FRAME.drop(columns="age"))


def test_conditions_of_other_rows_come_by_name_in_a_frame_a_dict_or_in_the_rows(run):
    opened = cb.open_run(run)
    expected = opened.score(FRAME).nll
    torch.testing.assert_close(opened.score(FRAME, condition=["age", "sex"]).nll, expected)
    torch.testing.assert_close(
        opened.score(FRAME[["hair", "height"]], condition={"age": AGE, "sex": SEX}).nll, expected
    )
    torch.testing.assert_close(opened.score(FRAME[["hair", "height"]], condition=FRAME[["sex", "age"]]).nll, expected)
    torch.testing.assert_close(opened.contexts(FRAME[["age", "sex"]], N), opened.contexts(FRAME[["sex", "age"]], N))


def test_a_baseline_that_is_lost_is_not_fitted_on_other_rows(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "baseline.safetensors").unlink()
    record = cb.evaluate(copy, FRAME.assign(height=FRAME["height"] + 100))
    assert record.baseline is None
    assert any("the data that the model was trained on are not known here" in note for note in record.notes)


def test_a_run_that_stored_one_name_as_text_goes_on(capsys, tmp_path):
    FRAME.to_csv(tmp_path / "people.csv", index=False)
    words = ["train", tmp_path / "people.csv", "--out", tmp_path / "run", "--condition", "sex"]
    assert call(capsys, *words, *WORDS)[0] == 0
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace('condition = ["sex"]', 'condition = "sex"'))
    assert call(capsys, *words, "--resume")[0] == 0


def test_rows_have_the_conditions_that_were_given(capsys, run, tmp_path):
    for words in (["--given", "sex=m", "--given", "age=70"], ["--condition", "sex=m, age=70"]):
        code, _, rows = sampled(capsys, run, tmp_path / "rows.csv", *words)
        assert code == 0
        assert set(rows["sex"]) == {"m"}
        assert set(rows["age"]) == {70}
        assert set(rows.columns) == set(FRAME.columns)


def test_conditions_and_other_cells_are_given_together(capsys, run, tmp_path):
    words = ["--given", "sex=f", "--given", "age=30", "--given", "hair=grey"]
    code, _, rows = sampled(capsys, run, tmp_path / "rows.csv", *words)
    assert code == 0
    assert set(rows["hair"]) == {"grey"}
    assert set(rows["sex"]) == {"f"}


def test_without_a_condition_those_of_the_training_rows_are_drawn_and_said(capsys, run, tmp_path):
    code, said, rows = sampled(capsys, run, tmp_path / "rows.csv")
    assert code == 0
    assert "no condition was given: those of the rows were drawn from the training rows" in said
    assert set(rows["sex"]) == {"f", "m"}
    assert set(zip(rows["sex"], rows["age"], strict=True)) <= set(zip(SEX, AGE, strict=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--given", "sex=m"], "all conditions of this run must be given; age came without a value"),
        (["--given", "sex=m", "--given", "age=3", "--condition", "sex=m,age=3"], "the conditions are given twice"),
        (["--condition", "m"], "must name its 2 columns, as in sex=..., age=..."),
        (["--condition", "sex=x, age=3"], "'sex' must be one of f, m; got x"),
    ],
)
def test_conditions_that_do_not_fit_are_refused_in_one_line(capsys, run, tmp_path, words, said):
    code, told, _ = sampled(capsys, run, tmp_path / "rows.csv", *words)
    assert code == 2
    assert said in told
    assert len(told.strip().splitlines()) == 1


def test_samples_follow_their_conditions_in_python(run):
    opened = cb.open_run(run)
    conditions = {"sex": ["f", "m"] * 5, "age": 40}
    rows = opened.sample_frame(10, condition=conditions)
    assert rows["sex"].tolist() == conditions["sex"]
    assert [repr(age) for age in rows["age"].tolist()] == ["40"] * 10  # whole, as it came
    given = {"hair": "grey"}
    with pytest.raises(ArgumentError, match="the conditions must be the same for all rows"):
        opened.sample_frame(10, given=given, condition=conditions)


def test_a_run_goes_on_with_its_conditions(tmp_path):
    settings = {"epochs": 2, "quiet": True, "pictures": False, "compile": "off", "precision": "fp32"}
    states = []
    for name, stops in (("whole", [None]), ("cut", [1, None])):
        for stop in stops:
            data = cb.data.load_data(FRAME, condition=["sex", "age"])
            torch.manual_seed(0)
            model = cb.build(spec=data.spec, latent_dim=2, context_dim=data.condition.dim)
            again = {"resume": True} if stops != [None] and stop is None else {}
            cb.fit(model, FRAME, tmp_path / name, condition=["sex", "age"], stop_after=stop, **settings, **again)
        states.append(cb.load(tmp_path / name).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_other_conditions_are_refused_where_a_run_goes_on(capsys, run):
    people = run.parent / "people.csv"
    code, _, said = call(capsys, "train", people, "--out", run, "--resume", "--condition", "sex")
    assert code == 2
    assert "got --condition sex (was sex, age)" in said
