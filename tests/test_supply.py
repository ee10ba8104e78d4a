"""What runs code or unpacks files in the source, each with its reason; and that versions are pinned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

# Words that make a program of a file, or files of an archive; and where each may stand, and why it does no harm there.
WORDS: dict[str, dict[str, str]] = {
    "pickle.load": {},
    "Unpickler": {},
    "import pickle\n": {},
    "torch.load(": {"pretrained.py": "with weights_only, of bytes in memory: tensors and nothing else"},
    "np.load(": {"data/cache.py": "with allow_pickle=False"},
    "joblib": {},
    "marshal": {},
    "yaml": {},
    " eval(": {},
    "=eval(": {},
    "exec(": {},
    "exec_module": {"own.py": "the user's own network: --model FILE.py, and run folders that the user trusts"},
    "__import__": {},
    "import_module": {
        "recipe.py": "tasks by their id, which has to be one of those in the package",
        "portable.py": "our own modules",
    },
    "os.system": {},
    "Popen": {},
    "subprocess.run": {"compare.py": "decathlon itself, no shell", "run.py": "git, fixed words, no shell"},
    "shell=True": {},
    "extractall": {},
    "unpack_archive": {},
    "tarfile.open": {"data/files.py": "as a stream, bounded, plain files inside only"},
    "ZipFile(": {"data/cache.py": "listed only, compressed ones refused", "pretrained.py": "the same"},
    "gzip.open": {"data/files.py": "no further than the header promises"},
    "gzip.decompress": {"data/mnist.py": "of an archive whose checksum is the published one"},
    "from_pretrained": {"encoder.py": "safetensors only, local, with a config of our own making"},
    "Tokenizer.from_file": {},
    "Tokenizer.from_str": {
        "encoder.py": "without regular expressions",
        "pretraining/imdb_roberta.py": "which this run has made itself",
    },
    "trust_remote_code": {"encoder.py": "False"},
    "| safe": {},
    "Markup": {},
}


def places(word: str) -> set[str]:
    source = ROOT / "src" / "decathlon"
    paths = [path for ending in ("py", "html") for path in source.rglob(f"*.{ending}")]
    return {str(path.relative_to(source)) for path in paths if word in path.read_text(encoding="utf-8")}


@pytest.mark.parametrize("word", list(WORDS))
def test_what_runs_code_is_known(word: str) -> None:
    assert places(word) == set(WORDS[word]), f"{word!r}: judge the new place, then name it in WORDS with its reason"


def test_the_words_are_found_where_they_stand() -> None:
    assert places("def load_weights") == {"run.py"}


def test_every_picture_is_opened_by_its_kind() -> None:
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
    names = {re.split(r"[\[<>=;~ ]", one)[0] for one in re.findall(r'"([^"]+)"', listed)} - {"decathlon", "3.11"}
    pinned = {normal(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    missing = {name for name in names if normal(name) not in pinned and not name.startswith(("'", "python"))}
    assert len(names) > 20
    assert not missing


def normal(name: str) -> str:
    """As PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_promises_are_written_down() -> None:
    text = Path(ROOT, "SECURITY.md").read_text()
    for word in ("How to report", "--model", "DECATHLON_TRUST_CODE", "cache", "not promised"):
        assert word in text, word
