"""What runs code or unpacks files in the source, each with its reason; and that versions are pinned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

# Words that make a program of a file, or files of an archive; and where each may stand, and why it does no harm there.
WORDS: dict[str, dict[str, str]] = {
    "pickle.load": {},
    "Unpickler": {"data/io/cifar_pickle.py": "only of files whose checksum is the published one, and arrays only"},
    "import pickle\n": {"data/io/cifar_pickle.py": "the same"},
    "torch.load(": {"data/pretrained.py": "with weights_only, of bytes in memory: tensors and nothing else"},
    "np.load(": {"data/io/cache.py": "with allow_pickle=False"},
    "joblib": {},
    "marshal": {},
    "yaml": {
        "data/io/yolo.py": "the ending of YOLO's data.yaml, of which one entry is read line by line",
        "data/io/own_boxes.py": "the same file's name in a message",
    },
    "eval(": {},
    "exec(": {},
    "exec_module": {
        "runs/user_model.py": "the user's own network: --model FILE.py, and run folders that the user trusts"
    },
    "__import__": {},
    "import_module": {
        "tasks/base.py": "tasks by their id, which has to be one of those in the package",
        "onnx/session.py": "our own modules",
        "__init__.py": "our own modules, when they are first asked for",
    },
    "os.system": {},
    "Popen": {"reporting/compare.py": "decathlon itself, no shell"},
    "subprocess.": {
        "reporting/compare.py": "the same",
        "runs/folder.py": "git, fixed words, no shell",
    },
    "os.popen": {},
    "os.exec": {},
    "os.spawn": {},
    "runpy": {},
    "shell=True": {},
    "extractall": {},
    "unpack_archive": {},
    "tarfile.open": {"data/io/archives.py": "as a stream, bounded, plain files inside only"},
    "ZipFile(": {"data/io/cache.py": "listed only, compressed ones refused", "data/pretrained.py": "the same"},
    "gzip.open": {"data/io/archives.py": "no further than the header promises"},
    "gzip.decompress": {"data/mnist.py": "of an archive whose checksum is the published one"},
    "from_pretrained": {"data/embeddings.py": "safetensors only, local, with a config of our own making"},
    "Tokenizer.from_file": {},
    "Tokenizer.from_str": {
        "data/embeddings.py": "without regular expressions",
        "tasks/roberta_mlm.py": "which this run has made itself",
    },
    "trust_remote_code": {"data/embeddings.py": "False"},
    "| safe": {},
    "Markup": {},
}


def files_with(word: str) -> set[str]:
    source = ROOT / "src" / "decathlon"
    paths = [path for ending in ("py", "html") for path in source.rglob(f"*.{ending}")]
    texts = {path: path.read_text(encoding="utf-8").replace(".eval(", "") for path in paths}  # that of a module
    return {str(path.relative_to(source)) for path, text in texts.items() if word in text}


@pytest.mark.parametrize("word", list(WORDS))
def test_what_runs_code_is_known(word: str) -> None:
    assert files_with(word) == set(WORDS[word]), f"{word!r}: judge the new place, then name it in WORDS with its reason"


def test_the_words_are_found_where_they_stand() -> None:
    assert files_with("def load_weights") == {"runs/folder.py"}


def test_every_image_is_opened_by_its_kind() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        for call in re.findall(r"Image\.open\([^\n]*", path.read_text(encoding="utf-8")):
            assert "formats=" in call, f"{path}: {call} may start other programs (EPS)"


def test_versions_are_pinned_and_come_from_no_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line.strip() and not line.startswith("#")]
    assert len(pins) > 100
    for line in pins:
        assert re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.!+]+( *; *python_version [<>=]+ \"3\.\d+\")?", line), line
    assert not re.search(r"://|@|--|\.whl|git\+", "\n".join(pins))


def test_every_package_that_pyproject_names_is_pinned() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = text.partition("dependencies = [")[2].partition("[project.scripts]")[0]
    names = {re.split(r"[\[<>=;~ ]", requirement)[0] for requirement in re.findall(r'"([^"]+)"', listed)} - {
        "decathlon",
        "3.11",
    }
    pinned = {normal(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    missing = {name for name in names if normal(name) not in pinned and not name.startswith(("'", "python"))}
    assert len(names) > 20
    assert not missing


def normal(name: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_guarantees_are_documented() -> None:
    text = Path(ROOT, "SECURITY.md").read_text()
    for word in ("Reporting a vulnerability", "--model", "DECATHLON_TRUST_CODE", "cache", "Out of scope"):
        assert word in text, word
