"""A download brings the whole file or none, whatever the server does, in bounded time and a bounded number of tries."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from pathlib import Path

import pytest
from bad_server import Server, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killing import attempt
from torchvision.models import MobileNet_V3_Large_Weights, ResNet50_Weights, detection

from decathlon.data import pretrained
from decathlon.data.io import download

CONTENT = bytes(range(256)) * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()
QUICK = 0.3  # seconds without a byte, instead of 20
HANG = 60  # seconds: a download that takes longer hangs


def get(server: Server, path: Path, checksum: str = MD5, timeout: float = QUICK) -> Path:
    start = time.monotonic()
    try:
        return download.fetch([server.url()], path, checksum, wait=0.01, timeout=timeout)
    finally:
        assert time.monotonic() - start < HANG


@pytest.mark.parametrize(
    "faults",
    [
        [],
        ["503", "500"],
        ["429"],
        ["wrong"],
        ["cut"],
        ["cut", "cut", "503"],
        ["cut", "norange"],
        ["cut", "shifted"],
        ["stall"],
        ["stall", "stall"],
        ["silent"],
        ["drip"],
        ["long"],
        ["short"],
        ["nolength"],
        ["cut", "416"],
    ],
    ids=" ".join,
)
def test_gets_the_whole_file(faults: list[str], server: Server, tmp_path: Path) -> None:
    server.files, server.faults = {"file": CONTENT}, list(faults)
    quiet = {"stall", "silent", "drip"} & set(faults)
    path = get(server, tmp_path / "folder" / "file", timeout=QUICK if quiet else 20)  # 0.3 s may pass on a busy machine
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    if faults in (["cut"], ["stall"]):
        assert server.asked == [("/file", None), ("/file", f"bytes={len(CONTENT) // 2}-")]
    if faults == ["long"]:
        assert len(server.asked) == 1, "all was there"


@pytest.mark.parametrize(
    ("faults", "word", "asked"),
    [
        (["404"], "404", 1),
        (["403"], "403", 1),
        (["503"] * 9, "503", download.TRIES),
        (["wrong"] * 9, "damaged", download.TRIES),
        (["short"] * 9, "damaged", download.TRIES),
        (["nolength"] * 9, "damaged", download.TRIES),
        (["stall"] * 99, "timed out", download.TRIES),
        (["silent"] * 9, "timed out", download.TRIES),
        (["drip"] * 9, "fewer than 1024 bytes a second", download.TRIES),
        (["loop"] * 99, "infinite loop", 11),
        (["away"], "302", 1),
        (["endless"] * 9, "without end", download.TRIES),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else None,
)
def test_gives_up_and_says_why(
    faults: list[str], word: str, asked: int, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 4 * len(CONTENT))
    server.files, server.faults = {"file": CONTENT}, faults
    with pytest.raises(ConnectionError, match=f"could not download file: .*{word}.* Put the file at .*file yourself"):
        get(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert 1 <= len(server.asked) <= asked


def test_goes_on_where_an_earlier_one_broke(server: Server, tmp_path: Path) -> None:
    server.files = {"file": CONTENT}
    (tmp_path / "file.part").write_bytes(CONTENT[:100_000])
    assert get(server, tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [("/file", "bytes=100000-")]


def test_a_whole_part_needs_no_server(server: Server, tmp_path: Path) -> None:
    """The process was killed when all was there and nothing verified."""
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert get(server, tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize("part", [CONTENT + b"more", bytes(len(CONTENT)), bytes(1000)])
def test_a_wrong_part_is_thrown_away(part: bytes, server: Server, tmp_path: Path) -> None:
    server.files = {"file": CONTENT}
    (tmp_path / "file.part").write_bytes(part)
    assert get(server, tmp_path / "file").read_bytes() == CONTENT


def test_a_try_that_brings_much_does_not_count(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that breaks every few megabytes brings a large file all the same."""
    monkeypatch.setattr(download, "MIN_PROGRESS_BYTES", 500)
    server.files, server.faults = {"file": CONTENT}, ["cut"] * 8  # half of the rest each time
    assert get(server, tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) == 9 > download.TRIES


def test_the_next_address_is_asked(server: Server, tmp_path: Path) -> None:
    server.files = {"file": CONTENT}
    urls = [server.url("absent"), server.url()]
    assert download.fetch(urls, tmp_path / "file", MD5, wait=0.01).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/absent", "/file"]


def test_a_damaged_file_stays_where_nothing_better_came(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"damaged")
    with pytest.raises(ConnectionError, match="404"):
        get(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"damaged"
    server.files = {"file": CONTENT}
    assert get(server, tmp_path / "file").read_bytes() == CONTENT


def test_two_at_a_time_do_not_mix(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files, server.delay = {"file": CONTENT}, 0.2
    threads = [threading.Thread(target=get, args=(server, tmp_path / "file", MD5, 5.0)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) == 1, "the others waited, and found it"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert "another process is fetching file: waiting for it" in capsys.readouterr().err


def test_a_kill_at_any_operation_leaves_no_half_file(server: Server, tmp_path: Path) -> None:
    """And the next process goes on from what is there. One of the tries is cut, so that the part is opened again."""
    folder = tmp_path / "data"
    server.files, server.faults = {"file": CONTENT}, ["cut"]
    arguments = ([server.url()], folder / "file", MD5, 0.01)
    whole = attempt(download.fetch, *arguments, folder=folder)
    assert not whole.killed
    for number in range(len(whole.operations)):
        (folder / "file").unlink(missing_ok=True)
        server.faults, server.asked = ["cut"], []
        killed = attempt(download.fetch, *arguments, folder=folder, before=number)
        assert killed.killed, f"operation {number}"
        assert not (folder / "file").exists() or (folder / "file").read_bytes() == CONTENT
        assert get(server, folder / "file").read_bytes() == CONTENT
        assert [p.name for p in folder.iterdir()] == ["file"]


FAULTS = ("cut", "wrong", "norange", "shifted", "long", "short", "nolength", "404", "416", "429", "503", "loop", "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(st.sampled_from(FAULTS), max_size=8), part=st.binary(max_size=40))
def test_whole_or_not_at_all(faults: list[str], part: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytes(range(1, 33))
    path = tmp_path_factory.mktemp("fetched") / "file"
    path.with_name("file.part").write_bytes(part)
    with serving() as server:
        server.files, server.faults = {"file": content}, list(faults)
        try:
            download.fetch([server.url()], path, hashlib.md5(content).hexdigest(), wait=0.0, timeout=5.0)
        except ConnectionError:
            assert faults
            assert not path.exists()
        else:
            assert path.read_bytes() == content
        assert len(server.asked) <= 11 * download.TRIES


def test_checksums(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert download.has_checksum(path, MD5)
    assert download.has_checksum(path, f"sha256:{digest[:8]}")
    assert not download.has_checksum(path, MD5[::-1])
    assert not download.has_checksum(path, f"sha256:{MD5[:8]}")


def test_pretrained_weights_are_verified(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in the cache, too: torch.hub verifies only what it fetches, and waits for a stalled server for ever."""
    weights = (
        detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.DEFAULT,
        detection.RetinaNet_ResNet50_FPN_Weights.DEFAULT,
        MobileNet_V3_Large_Weights.DEFAULT,
        ResNet50_Weights.DEFAULT,
    )
    for one in weights:
        assert re.search(r"-[0-9a-f]{8}\.pth$", one.url), "its name says how its checksum begins"
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(pretrained, "read_tensors", lambda path: {"read": path.read_bytes()})
    name = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / name).write_bytes(CONTENT[:1000])
    server.files = {name: CONTENT}

    class Named:
        url = server.url(name)

    for _ in range(2):
        loaded = pretrained.load_pretrained("coco", Named(), Named())  # type: ignore[arg-type]
        assert loaded == {"read": CONTENT}
    assert len(server.asked) == 1
