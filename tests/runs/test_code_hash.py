"""The hash of a task's code changes with what can change its numbers, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from decathlon.runs import code_hash
from decathlon.tasks.base import PRETRAINING, task_ids


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's source, which the hashes are of."""
    for folder in ("tasks", "models", "data", "training", "evaluation"):
        shutil.copytree(code_hash.PACKAGE / folder, tmp_path / "package" / folder)
    monkeypatch.setattr(code_hash, "PACKAGE", tmp_path / "package")
    return tmp_path / "package"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_every_task_has_one_of_its_own() -> None:
    ids = [*task_ids(), *PRETRAINING]
    hashes = {task_id: code_hash.code_hash(task_id) for task_id in ids}
    assert len(set(hashes.values())) == len(ids)
    assert all(len(value) == code_hash.HASH_LENGTH for value in hashes.values())
    modules = code_hash.code_modules("pets-unet")
    assert {"tasks.pets_unet", "tasks.recipe", "models.unet", "data.transforms.augment"} <= set(modules)
    assert {"evaluation.segmentation", "evaluation.metrics"} <= set(modules)
    assert "evaluation.plots" not in modules


def test_what_does_not_count_exists() -> None:
    for module in code_hash.WITHOUT_INFLUENCE:
        assert (code_hash.PACKAGE / f"{module.replace('.', '/')}.py").is_file(), module


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tasks/mnist_mlp.py", "label_smoothing: float = 0.05", "label_smoothing: float = 0.1"),
        ("models/mlp.py", "relu()", "tanh()"),
        ("data/transforms/augment.py", "align_corners=False", "align_corners=True"),
        ("evaluation/metrics.py", "argmax(1)", "argmin(1)"),
        ("data/mnist.py", "train", "test"),
        ("data/io/idx.py", "read_idx", "read_other"),
        ("data/divide.py", "True", "False"),
        ("training/loop.py", 'data, "validation", recipe', 'data, "test", recipe'),
        ("training/optim.py", "weight_decay", "no_decay"),
    ],
)
def test_code_counts(file: str, old: str, new: str, package: Path) -> None:
    before = code_hash.code_hash("mnist-mlp")
    replace(package / file, old, new)
    assert code_hash.code_hash("mnist-mlp") != before


@pytest.mark.parametrize(
    ("task_id", "module"),
    [
        ("mnist-autoencoder", "evaluation.forests"),
        ("cifar10-cnn", "data.io.image_folder"),
        ("voc-retinanet", "data.io.decoded_images"),
        ("voc-retinanet", "data.io.voc_coco"),
    ],
)
def test_what_reads_or_measures_counts(task_id: str, module: str) -> None:
    assert module in code_hash.code_modules(task_id)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tasks/mnist_mlp.py", "Expected  ", "Expected  about "),
        ("tasks/mnist_mlp.py", "from __future__", "# a comment\n\nfrom __future__"),
        ("tasks/mnist_mlp.py", "from torch import", "import math\nfrom torch import"),
        ("models/unet.py", "nn.ReLU", "nn.GELU"),
        ("evaluation/plots.py", "def ", "def another_"),
    ],
    ids=["docstring", "comment", "import", "another network", "plots"],
)
def test_the_rest_does_not(file: str, old: str, new: str, package: Path) -> None:
    before = code_hash.code_hash("mnist-mlp")
    replace(package / file, old, new)
    assert code_hash.code_hash("mnist-mlp") == before


def test_a_number_sign_in_a_text_is_no_comment() -> None:
    assert code_hash.code_lines(
        '"""Doc."""\nx = "# kept"  # dropped\n\n\ndef f():\n    """Doc."""\n    return 1\n'
    ) == [
        'x = "# kept"',
        "def f():",
        "    return 1",
    ]
