"""Records of the machine of a run, and of the memory that it took."""

import os
import platform
import subprocess
import sys

import numpy as np
import psutil
import torch

import calibrae as cb
from calibrae.runs import _hardware as module
from calibrae.runs import hardware, peak_memory

CPU = torch.device("cpu")


def test_the_machine_is_this_one():
    found = hardware(CPU, 3)
    assert (found["device"], found["processes"], found["threads"]) == ("cpu", 3, torch.get_num_threads())
    assert found["memory_gib"] == round(psutil.virtual_memory().total / 2**30, 1)
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found["processor"]


def test_a_processor_without_a_name_is_its_architecture(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    assert hardware(CPU, 1)["processor"] == platform.machine()


def test_the_peak_is_at_least_what_is_held_and_grows_with_it():
    before = peak_memory(CPU)["peak_memory_gib"]
    held = psutil.Process().memory_info().rss / 2**30
    assert before >= held - 0.001
    more = np.ones(int((before - held + 0.3) * 2**27))  # 8 bytes each: 0.3 GiB beyond the peak
    assert peak_memory(CPU)["peak_memory_gib"] >= before + 0.2
    del more


def test_the_peak_is_not_that_of_the_process_that_started_it():
    held = np.ones(2**27)  # 1 GiB
    code = "import torch; from calibrae.runs import peak_memory; print(peak_memory(torch.device('cpu'))['peak_memory_gib'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.9 < held.nbytes / 2**30


def test_a_run_says_where_it_was_trained_and_what_it_took(tmp_path):
    rows = np.random.default_rng(0).normal(size=(80, 3))
    run = cb.fit(
        cb.build(data_shape=(3,), latent_dim=1, network="linear"), rows, tmp_path / "run", epochs=1, quiet=True,
        pictures=False,
    )  # fmt: skip
    known = run.folder.read_run()
    assert known["hardware"]["device"] == "cpu"
    assert known["peak_memory_gib"] > 0.1
    card = run.report().read_text(encoding="utf-8")
    assert f"the process held at most {known['peak_memory_gib']:.2f} GiB" in card
    assert f"cores: {known['hardware']['cores']}, threads: {known['hardware']['threads']}, processes: 1" in card
