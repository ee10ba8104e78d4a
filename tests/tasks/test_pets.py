"""Photos and masks of any kind are read or refused by name; masks are measured, moved and written as they must be."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Command
from PIL import Image
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_accuracy, binary_f1_score, binary_jaccard_index

from decathlon.data import pets
from decathlon.data.base import Data, DataInfo, EpochShard, Source, Split
from decathlon.data.io import download
from decathlon.data.io.images import EXIF_ORIENTATION_TAG
from decathlon.data.pets import SegmentationSplit
from decathlon.data.synthetic import pets as synthetic_pets
from decathlon.data.transforms.augment import color_jitter, random_affine
from decathlon.evaluation import mask_images, metrics, segmentation
from decathlon.evaluation.predictions import Segmentation
from decathlon.models.unet import UNet
from decathlon.tasks import pets_unet

SIZE = 16
DRAW = np.random.default_rng(0)


def official(folder: Path) -> Data:
    return pets.load(Source("official", None, folder, download=False), SIZE)


def own(path: Path) -> Data:
    return pets.load(Source("own", path, path.parent / "data"), SIZE)


def save(path: Path, values: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = values if isinstance(values, Image.Image) else Image.fromarray(np.asarray(values, np.uint8))
    image.save(path, **options)
    return path


def trimap(high: int, wide: int) -> np.ndarray:
    """Ground, with a pet in the left half, and the boundary between them."""
    values = np.full((high, wide), pets.BACKGROUND, np.uint8)
    values[:, : wide // 2] = pets.PET
    values[:, wide // 2] = pets.BOUNDARY
    return values


def tree(folder: Path, trainval: int = 5, test: int = 3) -> Path:
    """A tiny official tree; every photo and trimap has a size of its own."""
    root = folder / "oxford-iiit-pet"
    for split, count in (("trainval", trainval), ("test", test)):
        names = [f"Cat_{split}_{number}" for number in range(count)]
        for number, name in enumerate(names):
            high, wide = 20 + number, 30 + (split == "test")
            save(root / f"images/{name}.jpg", np.full((high, wide, 3), 40 * number + 20))
            save(root / f"annotations/trimaps/{name}.png", trimap(high, wide))
        (root / "annotations" / f"{split}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))
    return root


def mine(folder: Path, sides: tuple[str, ...] = ("",), top: int = 255, count: int = 5) -> Path:
    for shift, side in enumerate(sides):  # or the splits would hold copies of the same images
        for number in range(count):
            save(folder / side / f"images/{number}.jpg", np.full((20, 30, 3), 15 * number + 20 + 5 * shift))
            save(folder / side / f"masks/{number}.png", np.where(trimap(20, 30) == pets.PET, top, 0))
    return folder


def parts(data: Data) -> list[SegmentationSplit]:
    splits = [data.train, data.validation, data.test]
    assert all(isinstance(part, SegmentationSplit) for part in splits)
    return splits  # type: ignore[return-value]


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_official_tree_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path)
    data = official(tmp_path)
    assert data.name == "pets-8"
    assert [len(part) for part in parts(data)] == [4, 1, 3]
    assert (data.test.inputs.shape, data.test.inputs.dtype) == ((3, 3, SIZE, SIZE), torch.uint8)
    assert (data.test.targets.shape, data.test.targets.dtype) == ((3, 1, SIZE, SIZE), torch.uint8)
    assert data.test.targets[:, :, :, :7].min() == 255, "what is left of the middle is pet"
    assert data.test.targets[:, :, :, 10:].max() == 0
    for number, image in enumerate(data.test.inputs):
        assert (image.float() - 40 * number - 20).abs().max() < 4
    monkeypatch.setattr(pets, "COUNTS", {"train": 5, "test": 3})
    assert official(tmp_path).name == "pets"


def test_trimaps_keep_their_size_through_slicing(tmp_path: Path) -> None:
    tree(tmp_path)
    test = parts(official(tmp_path))[2]
    for chosen, numbers in (
        (test, [0, 1, 2]),
        (test[1:], [1, 2]),
        (test[[2, 0]], [2, 0]),
        (test[torch.tensor([1])], [1]),
    ):
        assert isinstance(chosen, SegmentationSplit)
        assert len(chosen) == len(numbers)
        for index, number in enumerate(numbers):
            assert np.array_equal(chosen.to("cpu").trimap(index), trimap(20 + number, 31))


@pytest.mark.parametrize("top", [1, 255])
def test_own_masks(top: int, tmp_path: Path) -> None:
    data = own(mine(tmp_path / "mine", top=top, count=12))
    assert (data.name, [len(part) for part in parts(data)]) == ("own:mine", [10, 1, 1])
    truth = parts(data)[2].trimap(0)
    assert truth.unique().tolist() == [pets.PET, pets.BACKGROUND]
    assert (truth[:, :15] == pets.PET).all()
    assert (data.train.targets[..., :7] == 255).all()


def test_own_sides(tmp_path: Path) -> None:
    assert [len(part) for part in parts(own(mine(tmp_path / "one", ("train", "test"))))] == [4, 1, 5]
    assert [len(part) for part in parts(own(mine(tmp_path / "two", ("train", "val"))))] == [4, 1, 5]
    assert [len(part) for part in parts(own(mine(tmp_path / "three", ("train", "val", "test"))))] == [5, 5, 5]


def test_own_may_have_the_official_layout(tmp_path: Path) -> None:
    root = tree(tmp_path / "mine")
    assert len(own(root).test) == len(own(tmp_path / "mine").test) == 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_masks_of_any_kind(mode: str, tmp_path: Path) -> None:
    folder = mine(tmp_path / "mine")
    values = np.where(trimap(20, 30) == pets.PET, 255, 0).astype(np.uint8)
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    elif mode == "P":  # a mask as painting programs write it: numbers into a palette
        image = Image.fromarray(values // 255, "L").convert("P")
        image.putpalette([0, 0, 0, 200, 30, 30])
    else:
        image = image.convert(mode)
    save(folder / "masks/2.png", image)
    pair = pets.list_pairs(folder)[2]
    assert np.array_equal(pets.read_pair(pair)[1] == pets.PET, values > 0)


@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "CMYK", "GIF"])
def test_photos_of_any_kind(mode: str, tmp_path: Path) -> None:
    """The official set has GIF files named .jpg."""
    root = tree(tmp_path)
    path = root / "images/Cat_test_1.jpg"
    image = Image.new("RGB", (31, 21), (60, 60, 60))
    if mode == "RGBA":
        image.putalpha(0)
    content = io.BytesIO()
    kind = {"CMYK": "JPEG", "GIF": "GIF"}.get(mode, "PNG")
    converted = image.quantize() if mode == "P" else image if mode in ("RGBA", "GIF") else image.convert(mode)
    converted.save(content, kind)
    path.write_bytes(content.getvalue())
    pixels = official(tmp_path).test.inputs[1].float()
    assert (pixels - (255 if mode == "RGBA" else 60)).abs().max() < 4, "what is transparent is white"


@pytest.mark.parametrize(
    ("how", "stored"), [*((how, False) for how in range(2, 9)), *((how, True) for how in range(5, 9))]
)
def test_masks_of_turned_photos_fit(how: int, stored: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mask belongs to the photo as one sees it; one that fits only the file's own rows and columns is turned.

    Of a photo mirrored or upside down (2 to 4) both have one size, so nothing tells: the mask is taken to be upright.
    """
    folder = mine(tmp_path / "mine", ("train", "test"), count=3)
    pixels = np.zeros((40, 24, 3), np.uint8)
    pixels[:13, :9] = 255  # a bright pet in a corner
    exif = Image.Exif()
    exif[EXIF_ORIENTATION_TAG] = how
    path = save(folder / "test/images/1.png", pixels, exif=exif)
    (folder / "test/images/1.jpg").unlink()
    upright = pets.open_image(str(path))
    mask = pixels[..., 0] if stored else np.asarray(upright.convert("L"))
    save(folder / "test/masks/1.png", mask)
    image, mask_read, turned = pets.read_pair(next(pair for pair in pets.list_pairs(folder) if pair.image == path))
    assert np.array_equal(np.asarray(image)[..., 0] == 255, mask_read == pets.PET)
    assert turned == stored
    own(folder)
    assert ("1 masks turned" in capsys.readouterr().err) == stored


def test_masks_without_a_photo_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = mine(tmp_path / "mine")
    save(folder / "masks/more.png", np.zeros((2, 2)))
    assert len(pets.list_pairs(folder)) == 5
    assert "mine/masks: 1 masks ignored, which have no image (more for one)" in capsys.readouterr().err


def test_what_is_listed_must_be_there(tmp_path: Path) -> None:
    for path in ("images/Cat_test_1.jpg", "annotations/trimaps/Cat_test_1.png", "annotations/test.txt"):
        root = tree(tmp_path / path.replace("/", "-"))
        (root / path).unlink()
        with pytest.raises(FileNotFoundError, match=f"{path} is missing"):
            official(root.parent)
    folder = mine(tmp_path / "mine")
    (folder / "masks/3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"images/3.jpg has no mask: there is no .*masks/3.png"):
        own(folder)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", ".hidden", "a\\b"])
def test_lists_may_not_lead_outside(name: str, tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "annotations/test.txt").write_text(f"{name} 1 1 1\n")
    with pytest.raises(ValueError, match=r"test.txt lists .* not the name of an image"):
        official(tmp_path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    for path in ("images/Cat_trainval_2.jpg", "annotations/trimaps/Cat_trainval_2.png"):
        root = tree(tmp_path / path.replace("/", "-"))
        content = (root / path).read_bytes()
        for damage in (b"", b"no picture", content[: len(content) // 2]):
            (root / path).write_bytes(damage)
            with pytest.raises(ValueError, match=path):
                official(root.parent)


@pytest.mark.parametrize("value", [0, 4, 255])
def test_foreign_values_in_a_trimap_are_named(value: int, tmp_path: Path) -> None:
    root = tree(tmp_path)
    values = trimap(20, 31)
    values[3, 3] = value
    save(root / "annotations/trimaps/Cat_test_0.png", values)
    with pytest.raises(
        ValueError, match=rf"Cat_test_0.png holds the values .*\b{value}\b.*1 pet, 2 background, 3 bound"
    ):
        official(tmp_path)


@pytest.mark.parametrize("values", [[0, 2], [0, 1, 255], [0, 100, 255], [5]])
def test_foreign_values_in_an_own_mask_are_named(values: list[int], tmp_path: Path) -> None:
    folder = mine(tmp_path / "mine")
    save(folder / "masks/1.png", np.resize(values, (20, 30)))
    with pytest.raises(ValueError, match=rf"masks/1.png holds the values {', '.join(map(str, values))};"):
        own(folder)


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    folder = mine(tmp_path / "mine")
    for high, wide in ((20, 29), (30, 20)):  # the second would fit if the photo's EXIF data turned it
        save(folder / "masks/4.png", np.zeros((high, wide)))
        with pytest.raises(ValueError, match=rf"masks/4.png has {wide}×{high} pixels, its image 4.jpg 30×20"):
            own(folder)


@pytest.mark.parametrize("place", ["images/1.png", "masks/1.png"])
def test_a_huge_image_is_refused_before_it_is_decoded(place: str, tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    folder = mine(tmp_path / "mine")
    (folder / "images/1.jpg").unlink()
    save(folder / "images/1.png", np.zeros((20, 30, 3)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 0, 0, 0, 0))
    (folder / place).write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b""))
    with pytest.raises(ValueError, match=rf"{place} has 8000×8000 pixels; at most"):
        own(folder)


def test_neither_layout(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match=r"mine/images is not a folder: --data needs images/ and masks/"):
        own(tmp_path / "mine")
    with pytest.raises(ValueError, match="too few images"):
        own(mine(tmp_path / "two", count=2))


def test_cache_is_read_made_again_and_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = mine(tmp_path / "mine", ("train", "test"))
    first = own(folder)
    with monkeypatch.context() as patch:
        patch.setattr(pets, "decode_pairs", lambda pairs, size: pytest.fail("decoded again"))
        second = own(folder)
    for left, right in zip(parts(first), parts(second), strict=True):
        assert torch.equal(left.inputs, right.inputs)
        assert torch.equal(left.targets, right.targets)
        assert torch.equal(left.trimap(0), right.trimap(0))
    (cache,) = (tmp_path / "data/cache").iterdir()
    cache.write_bytes(cache.read_bytes()[:500])
    assert torch.equal(own(folder).test.inputs, first.test.inputs)
    assert f"{cache} is damaged or cannot be read: making it again" in capsys.readouterr().err
    save(folder / "test/images/0.jpg", np.full((20, 30, 3), 250))
    assert own(folder).test.inputs[0].min() > 240, "a changed photo is read again"
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").write_text("a file where the folder should be")
    assert len(own(folder).test) == 5
    assert "could not be kept" in capsys.readouterr().err


def test_nothing_there_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither .*oxford-iiit-pet/images nor .*images.tar.gz"):
        official(tmp_path)
    monkeypatch.setattr(pets, "URL", "http://127.0.0.1:9/")  # the discard port: nobody listens
    monkeypatch.setattr(download, "TRIES", 1)
    with pytest.raises(ConnectionError, match=r"Put the file at .*images.tar.gz yourself.*--data sample"):
        pets.load(Source("official", None, tmp_path), SIZE)


def archives(root: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in pets.ARCHIVES:
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as tar:
            tar.add(root / name, name)


def test_archives_are_fetched_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives(tree(tmp_path / "there"), tmp_path / "server")
    sums = {name: download.md5(tmp_path / "server" / f"{name}.tar.gz") for name in pets.ARCHIVES}
    monkeypatch.setattr(pets, "ARCHIVES", sums)
    monkeypatch.setattr(pets, "URL", f"{(tmp_path / 'server').as_uri()}/")
    data = pets.load(Source("official", None, tmp_path / "here"), SIZE)
    assert torch.equal(data.test.inputs, official(tmp_path / "there").test.inputs)
    assert not list(tmp_path.rglob("*.part"))
    by_hand = tmp_path / "offline/oxford-iiit-pet"
    shutil.copytree(tmp_path / "server", by_hand)
    assert len(official(tmp_path / "offline").test) == 3, "archives put there by hand are enough"
    shutil.rmtree(by_hand / "images")
    (by_hand / "images.tar.gz").write_bytes((by_hand / "images.tar.gz").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"images.tar.gz is damaged or cut short"):
        official(tmp_path / "offline")


def test_damaged_or_evil_archives_leave_nothing(tmp_path: Path) -> None:
    archives(tree(tmp_path / "there"), tmp_path / "server")
    archive = tmp_path / "server/images.tar.gz"
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"images.tar.gz is damaged"):
        pets.unpack(archive, tmp_path / "here/images")
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    with pytest.raises(ValueError, match=r"images.tar.gz holds '../evil', which leads outside"):
        pets.unpack(archive, tmp_path / "here/images")
    assert not (tmp_path / "evil").exists()
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name or path.name == "here/images"]


def test_sample_is_seeded_and_needs_more_than_colour(tmp_path: Path) -> None:
    first, second = (pets.load(Source("sample", None, tmp_path / name), SIZE) for name in ("one", "two"))
    assert first.name == "pets-sample"
    assert len(first.test) == synthetic_pets.COUNTS["test"]
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.train.targets, second.train.targets)
    assert not list(tmp_path.rglob("*.part"))
    values = torch.cat([parts(first)[2].trimap(number).flatten() for number in range(20)])
    shares = [(values == value).double().mean().item() for value in (pets.PET, pets.BACKGROUND, pets.BOUNDARY)]
    assert shares[0] > 0.12
    assert shares[1] < 0.8, "ground alone must be far from the goal, 95 %"
    assert 0 < shares[2] < 0.15


# --- Measuring --------------------------------------------------------------------------------------------------------

FOUND = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]], dtype=torch.bool)
TRUTH = torch.tensor([[1, 3, 3, 2], [2, 2, 2, 2]])


def test_metrics_by_hand() -> None:
    """In each row one pixel is wrong: one of the boundary that is not found, and one that is found on the ground."""
    measured = metrics.segmentation([(FOUND, TRUTH), (torch.zeros(1, 2, dtype=torch.bool), torch.tensor([[2, 2]]))])
    assert measured == {
        "accuracy": 0.8,  # 8 of 10
        "accuracy_no_boundary": 0.875,  # 7 of 8
        "iou": 0.5,  # 2 of 4
        "dice": round(4 / 6, 7),
        "accuracy_per_image": 0.875,  # 6/8 and 1
        "accuracy_no_boundary_per_image": round((5 / 6 + 1) / 2, 7),
        "iou_per_image": 0.75,  # 1/2, and 1 where there is no pet and none is found
        "dice_per_image": round((4 / 6 + 1) / 2, 7),
    }


def test_metrics_are_torchmetrics() -> None:
    torch.manual_seed(0)
    images = [(torch.rand(side, 9) > 0.4, torch.randint(1, 4, (side, 9))) for side in (5, 8, 30)]
    measured = metrics.segmentation(images)
    references = {"accuracy": binary_accuracy, "iou": binary_jaccard_index, "dice": binary_f1_score}
    for name, metric in references.items():
        per_image = [metric(predicted.int(), (truth != 2).int()).item() for predicted, truth in images]
        assert measured[f"{name}_per_image"] == pytest.approx(sum(per_image) / 3, abs=1e-6)
        predicted, truth = (torch.cat([pair[index].flatten() for pair in images]) for index in (0, 1))
        assert measured[name] == pytest.approx(metric(predicted.int(), (truth != 2).int()).item(), abs=1e-6)


def test_perfect_scores_measure_as_perfect(tmp_path: Path) -> None:
    """Scores made of the masks themselves, at a photo's own size, lose nothing but the scaling."""
    tree(tmp_path)
    test = parts(official(tmp_path))[2]
    measured = metrics.segmentation(segmentation.predict_masks(test.targets.float() - 127.5, test))
    assert measured["accuracy_no_boundary"] == 1
    assert measured["accuracy"] > 0.95


def test_logits_are_the_mean_over_flips() -> None:
    torch.manual_seed(0)
    model = UNet(4).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        plain, mirrored = (segmentation.compute_logits(model, views) for views in (images, images.flip(3)))
    assert torch.allclose(plain, mirrored.flip(3), atol=1e-5)


# --- Training ---------------------------------------------------------------------------------------------------------


def test_photo_and_mask_are_moved_alike() -> None:
    torch.manual_seed(0)
    images = F.interpolate(torch.rand(8, 3, 6, 6), (48, 48), mode="bilinear")
    truth = images.mean(1, keepdim=True)  # a mask that can be told from its photo
    moved, with_it = random_affine(images, truth, 32, rotation=30, scale=0.3, shift=0.2)
    assert (moved.shape, with_it.shape) == ((8, 3, 32, 32), (8, 1, 32, 32))
    assert torch.allclose(moved.mean(1, keepdim=True), with_it, atol=1e-6)
    assert with_it.min() >= truth.min() - 1e-6, "what comes in from outside is mirrored, not empty"
    still = F.interpolate(images, (32, 32), mode="bilinear")
    assert ((moved - still).abs().amax((1, 2, 3)) > 0.05).all(), "every photo is moved, and each on its own"


def test_without_distortion_a_photo_is_itself_or_its_mirror_image() -> None:
    torch.manual_seed(0)
    images, truth = torch.rand(32, 3, 16, 16), torch.rand(32, 1, 16, 16)
    moved, with_it = random_affine(images, truth, 16, rotation=0, scale=0, shift=0)
    mirrored = 0
    for original, mask, image, moved_mask in zip(images, truth, moved, with_it, strict=True):
        turned = torch.allclose(image, original.flip(2), atol=1e-5)
        assert turned or torch.allclose(image, original, atol=1e-5)
        assert torch.allclose(moved_mask, mask.flip(2) if turned else mask, atol=1e-5)
        mirrored += turned
    assert 8 <= mirrored <= 24


def test_color_jitter_keeps_shapes() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 3, 8, 8)
    assert torch.allclose(color_jitter(images, 0.0), images, atol=1e-6)
    changed = color_jitter(images * 0.2 + 0.4, 0.3)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed - images * 0.2 - 0.4).abs().mean() > 0.02
    grey = (images * 0.2 + 0.4).mean(1)
    order = grey.flatten(1).argsort(1)
    for image, ranks in zip(color_jitter(grey[:, None].expand(-1, 3, -1, -1), 0.3), order, strict=True):
        assert (image.flatten(1)[:, ranks].diff() >= -1e-6).all(), "brighter stays brighter"


def test_loss_rewards_what_is_right() -> None:
    recipe = pets_unet.recipe()
    truth = (torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    losses = [pets_unet.bce_dice_loss(sign * (truth * 2 - 1), truth, recipe)["loss"].item() for sign in (9, 1, 0, -9)]
    assert losses[0] < 0.001
    assert losses == sorted(losses)
    nothing = pets_unet.bce_dice_loss(torch.full((1, 1, 8, 8), -9.0), torch.zeros(1, 1, 8, 8), recipe)
    assert nothing["loss"] < 0.05, "a photo without a pet is no 0 / 0"


def test_first_epochs_see_smaller_photos() -> None:
    split = Split(torch.zeros(4, 3, 64, 64, dtype=torch.uint8), torch.zeros(4, 1, 64, 64, dtype=torch.uint8))
    recipe = replace(
        pets_unet.recipe(), batch_size=2, width=2, image_size=64, epochs=3, low_res_epochs=0.67, low_res_size=32
    )
    sides: list[int] = []
    model = pets_unet.model(recipe, DataInfo()).train()
    model.register_forward_hook(lambda module, inputs, output: sides.append(inputs[0].shape[-1]))
    for number in range(3):
        pets_unet.training_loss(model, next(iter(pets_unet.batches(split, recipe, EpochShard(0, number)))), recipe)
    assert sides == [32, 32, 64]


# --- The promise ------------------------------------------------------------------------------------------------------


class Other(UNet):
    """A U-Net with something changed."""

    def __init__(self, what: str) -> None:
        super().__init__(4)
        self.what = what
        self.apart = nn.ConvTranspose2d(32, 32, 2, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        maps, skips = images, []
        for number, down in enumerate(self.encoder):
            skips.append(down(maps))
            average = self.what == "average pooling" and number == 2
            maps = (F.avg_pool2d if average else F.max_pool2d)(skips[-1], 2)
        maps = self.bottleneck(maps)
        for number, up in enumerate(self.decoder):
            skip = skips.pop()
            if self.what == "transposed" and number == 0:
                upsampled = self.apart(maps)
            else:
                upsampled = F.interpolate(maps, skip.shape[2:], mode="bilinear")
            skip = upsampled if self.what == "no skip" and number == 3 else skip
            both = (
                torch.cat([skip + upsampled, upsampled], 1) if self.what == "sum" else torch.cat([skip, upsampled], 1)
            )
            maps = up(both)
        maps = self.output(maps)
        return maps.sigmoid() if self.what == "sigmoid" else maps


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("transposed", "3 interpolation layers, not 4"),
        ("average pooling", "3 max pooling layers, not 4"),
        ("sum", "uses addition"),
        ("sigmoid", "uses sigmoid"),
        ("norm", "0 batch norm layers, not 18"),
        ("relu", "0 ReLU layers, not 18"),
        ("shallow", "17 convolution layers, not 19"),
    ],
)
def test_violations_are_named(what: str, complaint: str) -> None:
    assert pets_unet.check_architecture(Other("nothing"), DataInfo()) == []
    model = Other(what)
    for block in (*model.encoder, model.bottleneck, *model.decoder):
        for index, layer in enumerate(block):
            if what == "norm" and isinstance(layer, nn.BatchNorm2d):
                block[index] = nn.Identity()
            if what == "relu" and isinstance(layer, nn.ReLU):
                block[index] = nn.SiLU()
    if what == "shallow":
        model.bottleneck = nn.Sequential()
    assert complaint in "; ".join(pets_unet.check_architecture(model, DataInfo()))


@pytest.mark.parametrize("channels", [2, 3])
def test_output_must_have_one_channel(channels: int) -> None:
    model = UNet(4)
    model.output = nn.Conv2d(4, channels, 1)
    with pytest.raises(ValueError, match=r"must return \(2, 1, 64, 64\)"):
        pets_unet.check_architecture(model, DataInfo())


@pytest.mark.parametrize("width", [4, 24])
def test_logits_have_the_size_of_the_image(width: int) -> None:
    model = UNet(width).eval()
    for high, wide in ((16, 16), (64, 32), (48, 112)):
        assert model(torch.rand(2, 3, high, wide)).shape == (2, 1, high, wide)


# --- Predicting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (7, 301), (500, 33), (640, 480)])
def test_predicts_images_of_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    path = save(tmp_path / "in/cat.png", DRAW.integers(0, 256, (size[1], size[0], 3)))
    torch.manual_seed(0)
    (prediction,) = segmentation.predict(UNet(4).eval(), [str(path)], 32, "pet", 8)
    assert isinstance(prediction, Segmentation)
    assert prediction.input == str(path)
    files = prediction.save(tmp_path, "cat")
    assert files == [tmp_path / f"cat-{kind}.png" for kind in mask_images.KINDS]
    mask, overlay, cutout = (pets.open_image(str(file)) for file in files)
    assert (mask.mode, overlay.mode, cutout.mode) == ("L", "RGB", "RGBA")
    assert mask.size == overlay.size == cutout.size == size
    pet = np.asarray(mask) == 255
    assert set(np.unique(mask)) <= {0, 255}
    assert np.array_equal(prediction.mask, pet)
    assert prediction.fraction == round(float(pet.mean()), 4)
    answer = prediction.to_dict()
    assert answer["label"] == f"pet on {100 * prediction.fraction:.1f} % of the image"
    assert answer["size"] == list(size)
    assert len(prediction.plot().axes) == 3
    pixels, cut = np.asarray(pets.open_image(str(path))), np.asarray(cutout)
    assert np.array_equal(cut[..., :3], pixels)
    assert (cut[pet][:, 3] >= 127).all()
    assert (cut[~pet][:, 3] <= 128).all()


def test_what_cannot_be_read_leaves_its_error_in_its_place(tmp_path: Path) -> None:
    array = DRAW.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mixed_inputs = [array, "nowhere.png", Image.fromarray(array), torch.from_numpy(array).permute(2, 0, 1), np.zeros(3)]
    opened: list[int] = []
    model = UNet(4).eval()
    model.register_forward_hook(lambda module, inputs, output: opened.append(len(inputs[0])))
    for batch_size in (2, 32):
        results = segmentation.predict(model, mixed_inputs, 32, "pet", batch_size)
        assert [type(result) for result in results] == [
            Segmentation,
            FileNotFoundError,
            Segmentation,
            Segmentation,
            ValueError,
        ]
        first, _, second, third, _ = results
        for result in (second, third):
            assert isinstance(result, Segmentation)
            assert isinstance(first, Segmentation)
            assert np.allclose(result.probability, first.probability, atol=1e-5)
    assert opened == [1, 1, 2, 2, 3, 3], "in batches, each with its flip"


def test_a_mask_of_own_is_of_use_for_training(tmp_path: Path) -> None:
    """What predict writes is read as an own mask."""
    photo = save(tmp_path / "mine/images/cat.png", DRAW.integers(0, 256, (20, 30, 3)))
    (prediction,) = segmentation.predict(UNet(4).eval(), [str(photo)], 32, "pet", 8)
    assert isinstance(prediction, Segmentation)
    mask, *_ = prediction.save(tmp_path, "cat")
    shutil.copytree(mine(tmp_path / "more"), tmp_path / "mine", dirs_exist_ok=True)
    shutil.copyfile(mask, tmp_path / "mine/masks/cat.png")
    assert len(pets.list_pairs(tmp_path / "mine")) == 6
    own(tmp_path / "mine")


def test_save_never_overwrites_a_file(tmp_path: Path) -> None:
    model = UNet(4).eval()
    names = [
        save(tmp_path / name, DRAW.integers(0, 256, (9, 9, 3))) for name in ("cat.png", "cat-mask.png", "a/cat.png")
    ]
    before = [path.read_bytes() for path in names]
    predictions = segmentation.predict(model, names, 32, "pet", 8)
    written = [
        prediction.save(tmp_path, Path(prediction.input).stem)
        for prediction in predictions
        if isinstance(prediction, Segmentation)
    ]
    assert [path.read_bytes() for path in names] == before
    assert len({path for files in written for path in files}) == 9
    assert [files[2].name for files in written] == [
        "cat-2-cutout.png",
        "cat-mask-cutout.png",
        "cat-3-cutout.png",
    ]


def test_own_photos_train_and_predict_from_the_command_line(decathlon: Command, tmp_path: Path) -> None:
    folder = mine(tmp_path / "mine", count=8)
    flags = ["--width", "2", "--image-size", "32", "--low-res-size", "16", "--epochs", "1", "--batch-size", "3"]
    done = decathlon("train", "pets-unet", "--data", folder, "--out", "run", *flags)
    assert done.status == 0, done.err
    assert "test accuracy" in done.out
    photo = save(tmp_path / "deep/cat.jpg", DRAW.integers(0, 256, (33, 55, 3)))
    answer = decathlon("predict", "pets-unet", photo, "--run", "run")
    assert answer.status == 0, answer.err
    assert ": mask on " in answer.out, "what own masks are of is not known"
    for kind in mask_images.KINDS:
        assert f"cat-{kind}.png" in answer.out
        assert Path(f"cat-{kind}.png").exists(), "in the current folder"
    assert [path.name for path in photo.parent.iterdir()] == ["cat.jpg"], "nothing is put beside the photo"
    missing = decathlon("predict", "pets-unet", "nowhere.jpg", "--run", "run")
    assert missing.status == 1
    assert "nowhere.jpg: no such file" in missing.error


@pytest.mark.parametrize(("flag", "value"), [("--image-size", "100"), ("--low-res-size", "40"), ("--scale", "0.8")])
def test_values_that_make_no_sense(flag: str, value: str, decathlon: Command) -> None:
    done = decathlon("train", "pets-unet", "--data", "sample", flag, value)
    assert done.status == 2
    assert f"{flag} must be" in done.error


def test_learns_the_sample(decathlon: Command) -> None:
    done = decathlon("train", "pets-unet", "--data", "sample", "--out", "run", "--json")
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert summary["value"] > 0.95
    assert summary["metrics"]["iou_per_image"] > 0.8
    assert summary["violations"] == []
