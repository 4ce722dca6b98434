"""Shared fixtures: float64 by default, one thread per worker, seeded, a cache of its own, the real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("calibrae", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("calibrae")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.default_generator.manual_seed(0)  # torch.manual_seed keeps a traceback for each accelerator that is not there


@pytest.fixture(autouse=True, scope="session")
def _one_thread_per_worker() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture
def double():
    """Run a test in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    os.environ["CALIBRAE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["CALIBRAE_REPORT"] = "0"  # which takes longer than the training of a test
    os.environ["CALIBRAE_PICTURES"] = "0"  # which do too


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the trainings of a test draw pictures, as they do for users."""
    monkeypatch.setenv("CALIBRAE_PICTURES", "1")


def real_data_root() -> Path | None:
    """Folder with `mnist/` and `cifar10/`, from `CALIBRAE_TEST_DATA` or beside the repository."""
    named = os.environ.get("CALIBRAE_TEST_DATA")
    candidates = [Path(named)] if named else []
    candidates.append(Path(__file__).resolve().parents[2] / "shared" / "data")
    return next((place for place in candidates if (place / "mnist").is_dir()), None)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real MNIST and CIFAR-10; skips where they are not on disk, unless they are required."""
    root = real_data_root()
    if root is None:
        if os.environ.get("CALIBRAE_REQUIRE_DATA"):
            pytest.fail("CALIBRAE_REQUIRE_DATA is set but no folder with mnist/ and cifar10/ was found")
        pytest.skip("needs real data: set CALIBRAE_TEST_DATA to a folder with mnist/ and cifar10/")
    return root
