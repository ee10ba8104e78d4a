"""Soft labels for training images, by a network pretrained on ImageNet that is fine-tuned on them: its teacher.

Distillation (Hinton, Vinyals and Dean 2015, arXiv:1503.02531): a small network learns more from the probabilities that
a better one gives to all classes than from the labels alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from decathlon.data import pretrained
from decathlon.data.base import Data, Source, Split, to_device
from decathlon.data.io import cache
from decathlon.data.transforms.augment import random_translate, to_float
from decathlon.messages import say

VERSION = "1"  # part of a cache's key: raise it when the teacher changes
SIDE = 96  # pixels, to which images are scaled up: networks for ImageNet halve an image five times
EPOCHS = 3
BATCH_SIZE = 100
LR = 6e-4  # AdamW's peak learning rate of the pretrained layers
LR_CLASSIFIER = 2e-3  # and of the new one
WEIGHT_DECAY = 0.02
LABEL_SMOOTHING = 0.1
SHIFT = 4  # random translation: maximum shift in pixels of the images as they are
WARMUP = 0.2  # fraction of the steps


def with_soft_labels(data: Data, name: str, source: Source) -> Data:
    """The data with class probabilities float32 (N, num_classes) as targets of the training images (N, 3, H, W).

    A target is the mean of the label and the teacher's probabilities, since the teacher errs, too. It is trained once
    on the training images and their labels; what it says of them is cached in the data folder. Validation and test
    keep their labels.

    Args:
        data: Images uint8, class ids.
        name: A timm model with ImageNet weights.
        source: Where the data came from.

    Raises:
        ConnectionError: The teacher's weights could not be fetched; says the way out.
        ValueError: timm has no such model (the message names the most similar), or no pretrained weights of it.
    """
    weights = pretrained.imagenet(name, "--teacher", "train without a teacher")
    digest = hashlib.sha256(name.encode())
    for tensor in (data.train.inputs, data.train.targets, *weights.values()):
        digest.update(tensor.contiguous().numpy().data)
    path = source.folder / "cache" / f"image-teacher-{cache.make_key(VERSION, digest.hexdigest())}.npz"
    made = cache.load_or_make(path, lambda: label_images(data, name, weights))
    soft = torch.from_numpy(made["logits"]).softmax(1)
    targets = (F.one_hot(data.train.targets, soft.shape[1]) + soft) / 2
    info = replace(data.info, teachers=[f"{name} ({100 * float(made['accuracy']):.2f} % on validation)"])
    train = replace(data.train, targets=targets)
    return replace(data, train=train, info=info, preparation_seconds=data.preparation_seconds + float(made["seconds"]))


def label_images(data: Data, name: str, weights: pretrained.State) -> dict[str, np.ndarray]:
    """Fine-tune the teacher, and let it label the training images.

    Returns:
        For the cache: `logits` float32 (N, num_classes), the mean over an image and its horizontal flip; the
        `accuracy` on validation, of the same mean; and `seconds`.
    """
    start, device = time.perf_counter(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    say(f"training a teacher for {len(data.train):,} images: {name}, {EPOCHS} epochs at {SIDE} pixels (once; cached)")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = build(name, weights, len(data.info.classes)).to(memory_format=torch.channels_last).to(device)
        for epoch in fine_tune(teacher, data.train):
            right = logits_of(teacher, data.validation.inputs).argmax(1) == data.validation.targets
            accuracy, seconds = float(right.float().mean()), time.perf_counter() - start
            say(f"teacher, epoch {epoch} of {EPOCHS}: validation {100 * accuracy:.2f} %, {seconds / 60:.0f} min")
    logits = logits_of(teacher, data.train.inputs)
    seconds = time.perf_counter() - start
    return {"logits": logits.numpy(), "accuracy": np.array(accuracy), "seconds": np.array(seconds)}


def build(name: str, weights: pretrained.State, num_classes: int) -> Any:
    """The timm model with these weights and a new classifier; it takes images float (N, 3, SIDE, SIDE), normalised."""
    import timm  # takes a second

    model: Any = timm.create_model(name)
    model.load_state_dict(weights)
    model.reset_classifier(num_classes)
    return model


def fine_tune(teacher: Any, train: Split) -> Iterator[int]:
    """Train all layers by AdamW with a one-cycle schedule; yield the number of each epoch, from 1, at its end."""
    head = set(teacher.get_classifier().parameters())
    kernels = [p for p in teacher.parameters() if p.ndim > 1 and p not in head]
    others = [p for p in teacher.parameters() if p.ndim <= 1 and p not in head]
    groups: list[dict[str, Any]] = [
        {"params": kernels},
        {"params": others, "weight_decay": 0.0},
        {"params": list(head)},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=WEIGHT_DECAY)
    steps = max(1, len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [LR, LR, LR_CLASSIFIER], EPOCHS * steps, pct_start=WARMUP, cycle_momentum=False
    )
    device = next(teacher.parameters()).device
    for epoch in range(EPOCHS):
        teacher.train()
        order = torch.randperm(len(train))
        for step in range(steps):
            batch = train[order[step * BATCH_SIZE : (step + 1) * BATCH_SIZE]]
            flipped = torch.rand(len(batch)) < 0.5
            images = torch.where(flipped[:, None, None, None], batch.inputs.flip(3), batch.inputs)
            images, labels = to_device(random_translate(images, SHIFT), device), to_device(batch.targets, device)
            loss = F.cross_entropy(teacher(prepare(images, teacher)), labels, label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield epoch + 1


def prepare(images: Tensor, teacher: Any) -> Tensor:
    """Images uint8 (N, 3, H, W) -> normalised float (N, 3, SIDE, SIDE)."""
    mean, deviation = (
        torch.tensor(teacher.default_cfg[key], device=images.device)[:, None, None] for key in ("mean", "std")
    )
    scaled = F.interpolate(to_float(images), (SIDE, SIDE), mode="bicubic", align_corners=False)
    return ((scaled - mean) / deviation).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def logits_of(teacher: Any, images: Tensor) -> Tensor:
    """Logits (N, num_classes) on the CPU, the mean over an image and its horizontal flip; images uint8 (N, 3, H, W)."""
    teacher.eval()
    device, parts = next(teacher.parameters()).device, []
    for part in images.split(2 * BATCH_SIZE):
        views = (to_device(view, device) for view in (part, part.flip(3)))
        parts.append(sum(teacher(prepare(view, teacher)) for view in views).cpu() / 2)
    return torch.cat(parts)
