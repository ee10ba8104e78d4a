"""The recipes that `bench/peers.py` compares ours with: widely used ones, written from their published hyperparameters.

Each function reads the same data as our task and gives what a plain training loop needs. Where the published script has
a DataLoader with workers, there are none: the comparison runs on one thread.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
import torchvision.transforms as T
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models

from decathlon.data import cifar10, imdb, mnist, pets, voc
from decathlon.data.base import Source, Split

Loss = Callable[[nn.Module, Any, Any], Tensor]


@dataclass
class Training:
    """What a plain training loop needs."""

    network: nn.Module
    optimizer: Any  # of torch
    loss: Loss
    batches: Callable[[], Iterable[tuple[Any, Any]]]
    examples: int  # in an epoch
    validation: Callable[[], Iterable[tuple[Tensor, Tensor]]] | None = None  # batches; None: not evaluated
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    max_grad_norm: float = 0.0
    preparation_seconds: float = 0.0


@dataclass(frozen=True)
class Peer:
    """A published recipe."""

    name: str
    task: str
    epochs: int
    published: str  # accuracy, as its authors give it
    prepare: Callable[[Source], Training]


def cross_entropy(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(network(inputs), targets)


def in_memory(inputs: Tensor, targets: Tensor, size: int) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Shuffled batches of tensors, the last one smaller."""

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for chunk in torch.randperm(len(targets)).split(size):
            yield inputs[chunk], targets[chunk]

    return batches


class Images(Dataset[tuple[Tensor, int]]):
    """Images that are transformed one by one, as torchvision's data sets do."""

    def __init__(self, split: Split, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images = split.inputs.permute(0, 2, 3, 1).squeeze(3).numpy()
        self.labels, self.transform = split.targets.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


# --- MNIST ------------------------------------------------------------------------------------------------------------


def keras_mlp(source: Source) -> Training:
    """784-512-512-10 with dropout 0.2; RMSprop, batches of 128."""
    data = mnist.load(source)
    train, held_out = (split.inputs.flatten(1).float() / 255 for split in (data.train, data.validation))
    hidden = [nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.2)]
    network = nn.Sequential(*hidden, nn.Linear(512, 10))
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9, eps=1e-7)
    validation = in_memory(held_out, data.validation.targets, 1000)
    batches = in_memory(train, data.train.targets, 128)
    return Training(network, optimizer, cross_entropy, batches, len(train), validation)


def pytorch_mnist(source: Source) -> Training:
    """Two convolutions and two fully connected layers; Adadelta, rate 1, times 0.7 an epoch, batches of 64."""
    data = mnist.load(source)
    transform = T.Compose([T.ToTensor(), T.Normalize((0.1307,), (0.3081,))])
    train, held_out = Images(data.train, transform), Images(data.validation, transform)
    convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
    head = [nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)]
    network = nn.Sequential(*convolutions, *head)
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.7)
    loader, validation = DataLoader(train, 64, shuffle=True), DataLoader(held_out, 1000)
    return Training(network, optimizer, cross_entropy, lambda: loader, len(train), lambda: validation, schedule)


# --- CIFAR-10 ---------------------------------------------------------------------------------------------------------


def kuangliu(source: Source, network: nn.Module) -> Training:
    """SGD, rate 0.1, momentum 0.9, weight decay 5e-4, cosine over 200 epochs, batches of 128; crop and flip."""
    data = cifar10.load(source)
    normalize = [T.ToTensor(), T.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))]
    augment = T.Compose([T.RandomCrop(32, padding=4), T.RandomHorizontalFlip(), *normalize])
    train, held_out = Images(data.train, augment), Images(data.validation, T.Compose(normalize))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    loader, validation = DataLoader(train, 128, shuffle=True), DataLoader(held_out, 100)
    return Training(network, optimizer, cross_entropy, lambda: loader, len(train), lambda: validation, schedule)


def vgg16() -> nn.Module:
    """VGG16's 13 convolutions with batch norm, for 32×32 images, and one fully connected layer."""
    return nn.Sequential(models.vgg16_bn().features, nn.Flatten(), nn.Linear(512, 10))


def resnet18() -> nn.Module:
    """ResNet18 for 32×32 images: the first convolution 3×3 without stride, no pooling after it."""
    network = models.resnet18(num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network


# --- IMDB -------------------------------------------------------------------------------------------------------------


def read_reviews(source: Source, vocabulary: int) -> tuple[list[list[int]], Split, Split]:
    """Word numbers of the labelled training reviews, by frequency from 4 on; indices of training and validation."""
    texts = imdb.load(source)
    reviews = [re.findall(r"[a-z0-9']+", text.lower()) for text in texts.train]
    counts = Counter(word for review in reviews for word in review)
    number = {word: rank for rank, (word, _) in enumerate(counts.most_common(vocabulary - 4), 4)}
    encoded = [[1, *(number.get(word, 2) for word in review)] for review in reviews]
    split = Split(torch.arange(len(encoded)), torch.tensor(texts.train_labels))
    return encoded, *imdb.divide_training(texts, split, source)


def text_training(
    network: nn.Module, optimizer: Any, sequences: list[list[int]], splits: tuple[Split, Split], start: float
) -> Training:
    """Reviews of their last 400 numbers, padded in front; binary cross-entropy, batches of 32."""
    rows = torch.zeros(len(sequences), 400, dtype=torch.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        row[-min(len(sequence), 400) :] = torch.tensor(sequence[-400:])
    train, validation = ((rows[split.inputs], split.targets) for split in splits)

    def loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(network(inputs)[:, 1], targets.float())

    seconds = time.perf_counter() - start
    batches, held_out = in_memory(*train, 32), in_memory(*validation, 500)
    return Training(network, optimizer, loss, batches, len(train[1]), held_out, preparation_seconds=seconds)


class TextNetwork(nn.Module):
    """Embeddings of 50 numbers, then their mean or 250 convolutions with kernel size 3; two logits, the first one 0."""

    def __init__(self, vocabulary: int, convolutions: bool) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, 50, sparse=not convolutions)
        nn.init.uniform_(self.embeddings.weight, -0.05, 0.05)
        self.convolution = nn.Conv1d(50, 250, 3) if convolutions else None
        hidden = [nn.Linear(250, 250), nn.Dropout(0.2), nn.ReLU(), nn.Linear(250, 1)]
        self.head = nn.Sequential(*hidden) if convolutions else nn.Linear(50, 1)

    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.embeddings(ids)  # (N, 400, 50)
        if self.convolution is None:
            pooled = vectors.mean(1)
        else:
            dropped = F.dropout(vectors, 0.2, self.training)
            pooled = self.convolution(dropped.transpose(1, 2)).relu().amax(2)
        return F.pad(self.head(pooled), (1, 0))


def keras_cnn(source: Source) -> Training:
    """Keras' imdb_cnn: 5,000 words; Adam."""
    start = time.perf_counter()
    sequences, *splits = read_reviews(source, 5000)
    network = TextNetwork(5000, convolutions=True)
    optimizer = torch.optim.Adam(network.parameters(), eps=1e-7)
    return text_training(network, optimizer, sequences, (splits[0], splits[1]), start)


class DenseAndSparse:
    """Adam for the head, and lazy Adam for embeddings: a dense step over a million of them takes seconds."""

    def __init__(self, network: TextNetwork) -> None:
        dense, sparse = network.head.parameters(), network.embeddings.parameters()
        self.parts = [torch.optim.Adam(dense), torch.optim.SparseAdam(sparse)]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()


def keras_fasttext(source: Source) -> Training:
    """Keras' imdb_fasttext: 20,000 words and all bigrams, mean embedding; Adam."""
    start = time.perf_counter()
    sequences, train, validation = read_reviews(source, 20_000)
    pairs = {pair for index in train.inputs.tolist() for pair in pairwise(sequences[index])}
    number = {pair: 20_000 + rank for rank, pair in enumerate(sorted(pairs))}
    with_bigrams = [[*row, *(number[pair] for pair in pairwise(row) if pair in number)] for row in sequences]
    network = TextNetwork(20_000 + len(number), convolutions=False)
    return text_training(network, DenseAndSparse(network), with_bigrams, (train, validation), start)


# --- Oxford-IIIT Pet --------------------------------------------------------------------------------------------------


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    layers = list[nn.Module]()
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Five levels of 64 to 1,024 filters, transposed convolutions on the way up: 31 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(map(double_convolution, (3, *widths), widths))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[-2::-1])
        self.up = nn.ModuleList(double_convolution(2 * width, width) for width in widths[-2::-1])
        self.output = nn.Conv2d(64, 2, 1)

    def forward(self, maps: Tensor) -> Tensor:
        levels = list[Tensor]()
        for number, block in enumerate(self.down):
            levels.append(block(F.max_pool2d(levels[-1], 2) if number else maps))
        maps = levels.pop()
        for grow, block in zip(self.grow, self.up, strict=True):
            maps = block(torch.cat([levels.pop(), grow(maps)], 1))
        return self.output(maps)


def milesial(source: Source) -> Training:
    """RMSprop, rate 1e-5, momentum 0.999, single images at half scale (here 224×224); cross-entropy and Dice loss."""
    split = pets.load(source, 224).train
    network = UNet()
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-5, weight_decay=1e-8, momentum=0.999)

    def loss(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        logits, masks = network(inputs.float() / 255), (targets[:, 0] > 127).long()
        probability = logits.softmax(1)[:, 1]
        dice = 2 * (probability * masks).sum() / (probability.sum() + masks.sum()).clamp(min=1e-6)
        return F.cross_entropy(logits, masks) + 1 - dice

    batches = in_memory(split.inputs, split.targets, 1)
    return Training(network, optimizer, loss, batches, len(split), max_grad_norm=1.0)


# --- PASCAL VOC -------------------------------------------------------------------------------------------------------


def torchvision_detection(source: Source, build: Callable[..., nn.Module], lr: float) -> Training:
    """SGD, momentum 0.9, weight decay 1e-4, two images a step, random flip; the rate an eighth of that for 8 GPUs."""
    split: Any = voc.load(source, 500).train
    network = build(weights=None, weights_backbone=None, num_classes=len(voc.CLASSES) + 1)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=lr / 8, momentum=0.9, weight_decay=1e-4)

    def batches() -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        for pair in torch.randperm(len(split)).split(2):
            images, targets = zip(*(read(int(index)) for index in pair), strict=True)
            yield list(images), list(targets)

    def read(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = split.example(index)
        boxes = target["boxes"]
        if torch.rand(()) < 0.5:
            image, boxes = image.flip(2), boxes[:, [2, 1, 0, 3]]
            boxes = torch.stack(
                [image.shape[2] - boxes[:, 0], boxes[:, 1], image.shape[2] - boxes[:, 2], boxes[:, 3]], 1
            )
        return image.float() / 255, {"boxes": boxes, "labels": target["labels"]}

    def loss(network: nn.Module, inputs: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
        losses: dict[str, Tensor] = network(inputs, targets)
        return torch.stack([*losses.values()]).sum()

    return Training(network, optimizer, loss, batches, len(split))


faster_rcnn = models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
retinanet = models.detection.retinanet_resnet50_fpn
PEERS = [
    Peer("Keras mnist_mlp", "mnist-mlp", 20, "98.40 %", keras_mlp),
    Peer("PyTorch examples/mnist", "mnist-cnn", 14, "not given", pytorch_mnist),
    Peer("kuangliu VGG16", "cifar10-cnn", 200, "92.64 %", lambda source: kuangliu(source, vgg16())),
    Peer("kuangliu ResNet18", "cifar10-skip", 200, "93.02 %", lambda source: kuangliu(source, resnet18())),
    Peer("Keras imdb_cnn", "imdb-textcnn", 2, "89 %", keras_cnn),
    Peer("Keras imdb_fasttext", "imdb-textcnn", 5, "90.56 %", keras_fasttext),
    Peer("milesial Pytorch-UNet", "pets-unet", 5, "none on these data", milesial),
    Peer(
        "torchvision Faster R-CNN",
        "voc-faster-rcnn",
        26,
        "mAP 22.8 on COCO",
        lambda source: torchvision_detection(source, faster_rcnn, 0.02),
    ),
    Peer(
        "torchvision RetinaNet",
        "voc-retinanet",
        26,
        "mAP 36.4 on COCO",
        lambda source: torchvision_detection(source, retinanet, 0.01),
    ),
]
