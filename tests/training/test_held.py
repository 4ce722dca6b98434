"""A run's folder while it trains, and what may fail beside the training."""

import pytest
import torch
from safetensors import SafetensorError

import calibrae as cb
from calibrae.errors import RunError
from calibrae.runs import RunFolder

PLAIN = {"epochs": 1, "quiet": True, "compile": "off", "precision": "fp32", "threads": 1}


def model(**parts):
    return cb.build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2, network="linear", **parts)


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path):
    with RunFolder(tmp_path / "r").held(), pytest.raises(RunError, match="another process is training in"):
        cb.fit(model(), "digits", tmp_path / "r", pictures=False, **PLAIN)
    assert not (tmp_path / "r").exists()
    cb.fit(model(), "digits", tmp_path / "r", pictures=False, **PLAIN)
    before = (tmp_path / "r" / "history.csv").read_text()
    with RunFolder(tmp_path / "r").held():
        for how in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(RunError, match="another process is training in"):
                cb.fit(model(), "digits", tmp_path / "r", pictures=False, **{**PLAIN, **how})
    assert (tmp_path / "r" / "history.csv").read_text() == before
    assert not list((tmp_path / "r").glob(".*"))


def test_data_that_cannot_be_read_leave_no_folder(tmp_path):
    with pytest.raises(cb.errors.DataError):
        cb.fit(model(), tmp_path / "nowhere", tmp_path / "r", pictures=False, **PLAIN)
    assert not (tmp_path / "r").exists()


@pytest.mark.usefixtures("pictures")
def test_a_picture_that_cannot_be_drawn_is_a_note(tmp_path, monkeypatch, capsys):
    def fails(*_, **__):
        raise ValueError("Too many bins for data range")

    monkeypatch.setattr("calibrae.workflows._picture.save_grid", fails)
    run = cb.fit(model(), "digits", tmp_path / "r", **{**PLAIN, "quiet": False})
    said = capsys.readouterr().err
    assert "note: samples.png could not be drawn: Too many bins for data range; again: calibrae sample" in said
    assert (run.path / "curves.png").exists()
    assert run.evaluate().n == 180


def test_a_file_that_cannot_be_written_names_it_and_the_space(tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(RunError, match=r"step-\S+ cannot be written: No space left on device\. Free some space"):
        cb.fit(model(), "digits", tmp_path / "r", pictures=False, **PLAIN)


def test_the_weights_of_a_preset_follow_their_seed_alone():
    torch.manual_seed(1)
    one, state = model(seed=3), torch.get_rng_state()
    torch.manual_seed(2)
    two, three = model(seed=3), model(seed=4)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())  # building draws nothing


def test_the_word_of_lightning_is_read_as_device(tmp_path):
    with pytest.raises(cb.errors.ArgumentError, match="`device` must be one that this machine has"):
        cb.fit(model(), "digits", tmp_path / "r", accelerator="abacus", pictures=False, **PLAIN)
