"""The package's face: names, weight, and the examples that people copy."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import calibrae
from calibrae._optional import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
PROMISED = {
    "functional", "Batch", "Likelihood", "Posterior", "Prior", "Objective", "Draw", "Terms", "Scale", "component",
    "GaussianLikelihood", "LaplaceLikelihood", "HeteroscedasticGaussianLikelihood", "BernoulliLikelihood", "GaussianPosterior",
    "PointPosterior", "StandardNormalPrior", "MixturePrior", "ConditionalGaussianPrior", "DistributionPrior", "NoPrior",
    "BetaELBO", "IWAE", "ReconstructionError", "VAE", "build", "fix_scale", "DataOptions", "load_data", "fit", "open_run", "Run",
    "evaluate", "evaluate_full", "diagnose", "score", "sweep", "load",
}  # fmt: skip
FUNCTIONS = {
    "mse", "sse", "gaussian_nll", "log_density_ratio", "kl_standard_normal", "kl_diagonal_gaussian", "optimal_sigma",
    "bits_per_dim", "importance_bound",
}  # fmt: skip


def test_the_promised_names_exist():
    assert set(calibrae.__all__) >= PROMISED
    for name in calibrae.__all__:
        assert getattr(calibrae, name) is not None
    assert set(dir(calibrae.functional)) >= FUNCTIONS
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = calibrae.nonsense


def test_public_names_are_documented():
    for name in calibrae.__all__:
        if not name.startswith("_"):
            assert (getattr(calibrae, name).__doc__ or "").strip(), name


def test_importing_costs_nothing_before_use():
    heavy = "{'torch', 'numpy', 'lightning_fabric', 'matplotlib', 'datasets', 'sklearn'}"
    code = f"import sys, calibrae; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_need_torch_alone():
    code = (
        "import sys, calibrae; calibrae.build('sigma-vae', data_shape=(3, 8, 8), latent_dim=2); "
        "print(sorted({'lightning_fabric', 'matplotlib', 'datasets', 'sklearn', 'pyarrow', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _complete_blocks():
    """Python of the pages that imports what it uses and names nothing of the reader's own."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    found = [
        b for page in pages for b in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    ]
    return [block for block in found if "import calibrae" in block and "my_" not in block and "runs/" not in block]


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)


@pytest.mark.parametrize("block", _complete_blocks())
def test_the_python_of_the_pages_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs", "exec"), {})


def _tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.whole
@pytest.mark.parametrize("name", ["README.md", "docs/numbers.md", "docs/training.md"])
def test_the_outputs_on_a_page_are_those_of_its_commands(name):
    outputs, page = _tool("make_outputs"), (ROOT / name).read_text(encoding="utf-8")
    assert outputs.BLOCK.search(page)
    assert list(outputs.differences(page, outputs.page_with_outputs(page))) == []


@pytest.mark.whole
@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "tutorials").glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_runs_and_prints_what_it_says(page):
    outputs, text = _tool("make_outputs"), page.read_text(encoding="utf-8")
    assert list(outputs.differences(text, outputs.tutorial_with_outputs(text))) == []


def test_no_page_with_commands_is_forgotten():
    outputs = _tool("make_outputs")
    found = {page.name for page in outputs.PAGES if outputs.BLOCK.search(page.read_text(encoding="utf-8"))}
    assert found == {"README.md", "numbers.md", "training.md"}


def test_outputs_that_went_stale_are_noticed():
    differences = _tool("make_outputs").differences
    assert list(differences("ELBO 39.61 nats", "ELBO 39.2 nats")) == []
    assert list(differences("ELBO 39.61 nats", "ELBO 20.1 nats"))
    assert list(differences("ELBO 39.61 nats", "bound 39.61 nats"))
    assert list(differences("one", "one\ntwo"))
    assert list(differences("epoch 1   1 s  ELBO 3.1", "epoch 1  90 s  ELBO 3.1")) == []


def test_the_page_of_conventions_is_that_of_the_catalogue():
    assert (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8") == _tool("make_pages").conventions_page()


def test_the_worked_example_prints_what_its_page_says(capsys):
    blocks = re.findall(r"```(python)?\n(.*?)```", (ROOT / "docs" / "audit.md").read_text(encoding="utf-8"), re.DOTALL)
    at = next(i for i, (kind, _) in enumerate(blocks) if kind)
    exec(blocks[at][1], {})
    assert blocks[at + 1][1].splitlines() == capsys.readouterr().out.splitlines()[:-1]  # but for the time


def test_the_corpus_table_is_that_of_what_the_audits_found():
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    assert page == _tool("make_pages").audit_page(page)


def test_files_and_functions_stay_small():
    import ast

    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and len(node.body) > 1:
                first = node.body[1] if ast.get_docstring(node) else node.body[0]
                length = (node.end_lineno or 0) - first.lineno + 1
                assert length <= 45, f"{file.name}: {node.name} has {length} lines"


WITHOUT = r"""
import sys, tempfile, os
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Block())
os.environ["CALIBRAE_CACHE"] = tempfile.mkdtemp()
import numpy as np, torch
import calibrae as cb
from calibrae.errors import CalibraeError
rows = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
model = cb.build("vae", data_shape=(4,), latent_dim=2, network="linear")
print(model.elbo(torch.from_numpy(rows)).elbo.shape == (60,))  # torch and numpy are enough for this
uses = {
    "options": lambda: cb.DataOptions(),
    "settings": lambda: cb.TrainSettings(),
    "rows": lambda: cb.load_data(rows),
    "digits": lambda: cb.load_data("digits"),
    "load": lambda: cb.load(sys.argv[2]),
    "evaluate": lambda: cb.evaluate(sys.argv[2]),
    "fit": lambda: cb.fit(model, rows, epochs=1, quiet=True),
    "sweep": lambda: cb.sweep(rows, tempfile.mkdtemp() + "/s", beta=[1.0], latent_dim=2, network="linear", quiet=True, settings=cb.TrainSettings(epochs=1)),
}
for name, use in uses.items():
    try:
        use()
    except CalibraeError as error:
        assert "pip install 'calibrae[" in str(error), error
"""


@pytest.mark.slow
@pytest.mark.parametrize("package", ["all", "PIL", "sklearn", "safetensors", "psutil"])
def test_what_misses_a_package_names_the_extra_that_brings_it(package: str) -> None:
    """F5: a missing package used to be a raw ModuleNotFoundError, also where it was not needed."""
    blocked = ",".join(EXTRAS) if package == "all" else package
    kept = Path(__file__).parent / "runs" / "format-1"
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT, blocked, str(kept)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True")
