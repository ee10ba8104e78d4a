"""`decathlon start`: a net.py to fill in, with what the task gives and asks for, and a notebook around it."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decathlon import __version__
from decathlon.data.io import atomic
from decathlon.tasks.base import Spec, get_task

MNIST_INPUT = "images, float32 (N, 1, 28, 28), from 0 (background) to 1 (ink)"
CIFAR_INPUT = "images, float32 (N, 3, 32, 32) in [0, 1]; on the official data also (N, 3, 24, 24), in the first epochs"
VOC_INPUT = "a list of images, float32 (3, H, W) in [0, 1] of any sizes; in training also a list of targets"
VOC_OUTPUT = (
    "in training a dict of losses, else for each image a dict with boxes (M, 4) as left, top, right, bottom in pixels, "
    "labels (M,) from 1, and scores (M,)"
)
INSTALL = f"""try:
    import decathlon
except ModuleNotFoundError:  # from a file: the package is not on PyPI, where anybody could take its name
    %pip install -q ./decathlon-{__version__}-py3-none-any.whl"""
WIDTH = 100  # characters of a line in net.py
LOGITS = "no softmax at the end: the loss, cross-entropy, contains it"


@dataclass(frozen=True)
class Starter:
    """What net.py says of a task.

    Attributes:
        inputs: What forward() takes.
        outputs: What it returns.
        argument: Name of forward()'s argument.
        returns: Its return type and shape, for the docstring.
        architecture: What the network must have, may have and must not have.
        notes: Further remarks.
        constants: Lines of code: sizes that the network needs to know.
        show: Code of the notebook that draws some training examples.
        epochs: Of the notebook's training on the sample.
    """

    inputs: str
    outputs: str
    argument: str
    returns: str
    architecture: tuple[str, ...]
    notes: tuple[str, ...]
    constants: tuple[str, ...]
    show: str
    epochs: int = 3


SHOW_IMAGES = """figure, axes = plt.subplots(2, 6, figsize=(9, 3.4))
for axis, image, target in zip(axes.flat, data.train.inputs, data.train.targets):
    axis.imshow(image.permute(1, 2, 0).numpy(), cmap="gray")
    axis.set_title(data.info.classes[target], fontsize=9)
    axis.axis("off")"""
SHOW_MASKS = """figure, axes = plt.subplots(2, 6, figsize=(9, 3.4))
for column, image, mask in zip(axes.T, data.train.inputs, data.train.targets):
    column[0].imshow(image.permute(1, 2, 0).numpy())
    column[1].imshow(mask[0].numpy(), cmap="gray")
    column[0].axis("off")
    column[1].axis("off")"""
SHOW_BOXES = """figure, axes = plt.subplots(1, 4, figsize=(9, 2.6))
for index, axis in enumerate(axes):
    image, target = data.train.example(index)
    axis.imshow(image.permute(1, 2, 0).numpy())
    for (left, top, right, bottom), label in zip(target["boxes"].tolist(), target["labels"].tolist()):
        axis.add_patch(plt.Rectangle((left, top), right - left, bottom - top, fill=False, color="tab:orange"))
        axis.text(left, top, data.info.classes[label - 1], fontsize=8, color="tab:orange")
    axis.axis("off")"""
SHOW_TOKENS = """for tokens, target in zip(data.train.inputs[:5], data.train.targets[:5]):
    words = [data.info.vocabulary[token - 2] if token > 1 else "…" for token in tokens.tolist() if token]
    print(data.info.classes[int(target.argmax() if target.ndim else target)], "|", " ".join(words[:20]))"""
SHOW_EMBEDDINGS = """embeddings = data.train.inputs - data.train.inputs.mean(0)
points = embeddings @ torch.pca_lowrank(embeddings, 2)[2]  # (N, 256) -> (N, 2): the first two principal components
for label, name in enumerate(data.info.classes):
    plt.scatter(*points[data.train.targets == label].T.numpy(), s=5, label=name)
plt.legend();"""

STARTERS = {
    "mnist-mlp": Starter(
        MNIST_INPUT,
        f"logits, float32 (N, 10); {LOGITS}",
        "images",
        "Tensor: logits (N, 10)",
        ("exactly two fully connected layers", "ReLU", "dropout is allowed, nothing else"),
        ("nn.Flatten, or images.flatten(1), makes rows of the pixels.",),
        ("NUM_PIXELS, NUM_CLASSES = 28 * 28, 10",),
        SHOW_IMAGES,
    ),
    "mnist-cnn": Starter(
        MNIST_INPUT,
        f"logits, float32 (N, 10); {LOGITS}",
        "images",
        "Tensor: logits (N, 10)",
        ("convolution, max pooling, ReLU and fully connected layers, at least one of each", "nothing else"),
        ("Write the shape after each layer beside it: the fully connected layer needs to know it.",),
        ("NUM_CLASSES = 10",),
        SHOW_IMAGES,
    ),
    "mnist-autoencoder": Starter(
        MNIST_INPUT,
        "a pair: reconstructions (N, 1, 28, 28), and latent codes (N, LATENT_DIM)",
        "images",
        "tuple[Tensor, Tensor]: reconstructions (N, 1, 28, 28), codes (N, LATENT_DIM)",
        ("a latent dimension of at most 128", "encoder and decoder are free"),
        (
            "No label is used in training. The metric is the accuracy of a random forest on the codes.",
            "The loss compares reconstructions with images, and keeps the code's dimensions from collapsing.",
        ),
        ("LATENT_DIM = 64",),
        SHOW_IMAGES,
    ),
    "cifar10-cnn": Starter(
        CIFAR_INPUT,
        f"logits, float32 (N, 10); {LOGITS}",
        "images",
        "Tensor: logits (N, 10)",
        (
            "exactly six convolutions and three fully connected layers",
            "batch norm and max pooling, at least one of each",
            "ReLU and dropout are allowed, nothing else",
        ),
        ("A network for 32×32 only needs --low-res-epochs 0. Max pooling over the whole map fits every size.",),
        ("NUM_CLASSES = 10",),
        SHOW_IMAGES,
    ),
    "cifar10-skip": Starter(
        CIFAR_INPUT,
        f"logits, float32 (N, 10); {LOGITS}",
        "images",
        "Tensor: logits (N, 10)",
        (
            "two convolutions or more",
            "a skip connection: feature maps of equal shape are added, or maps are concatenated",
            "batch norm, ReLU, max pooling and dropout, at least one of each",
        ),
        ("A network for 32×32 only needs --low-res-epochs 0. Max pooling over the whole map fits every size.",),
        ("NUM_CLASSES = 10",),
        SHOW_IMAGES,
    ),
    "imdb-textcnn": Starter(
        "token ids, int32 (N, L), padded with 0 at the end; 1 is the unknown word",
        f"logits, float32 (N, 2); {LOGITS}",
        "tokens",
        "Tensor: logits (N, 2)",
        (
            "an embedding",
            "two convolutions or more over the embeddings",
            "the maximum over time",
            "exactly one fully connected layer",
        ),
        (
            "Conv1d takes (N, embedding dimension, L). L differs from batch to batch.",
            "The padding should not win the maximum.",
        ),
        ("NUM_TOKENS, PADDING_ID, NUM_CLASSES = 30_002, 0, 2  # rows of the embedding; the sample needs fewer",),
        SHOW_TOKENS,
    ),
    "imdb-roberta": Starter(
        "embeddings of whole reviews from the frozen encoder, float32 (N, 256)",
        f"logits, float32 (N, 2); {LOGITS}",
        "embeddings",
        "Tensor: logits (N, 2)",
        ("two to four fully connected layers", "a nonlinearity between them", "normalisation and dropout are allowed"),
        ("The encoder has run already, once for each review. With --encoder another dimension may be needed.",),
        ("EMBEDDING_DIM, NUM_CLASSES = 256, 2  # of roberta-mini, the encoder that ships",),
        SHOW_EMBEDDINGS,
    ),
    "pets-unet": Starter(
        "images, float32 (N, 3, S, S) in [0, 1], S a multiple of 16",
        "logits, float32 (N, 1, S, S), above 0 for the pet; no sigmoid at the end: the loss contains it",
        "images",
        "Tensor: logits (N, 1, S, S)",
        (
            "four encoder blocks, each of two convolutions, then max pooling; a bottleneck of two convolutions",
            "four decoder blocks: interpolation, concatenation with the encoder's maps, two convolutions",
            "batch norm and ReLU after each of these 18 convolutions; a 19th convolution makes the one output channel",
            "nothing else",
        ),
        ("Padded convolutions keep the size, so that the maps fit together. S is 96, on the sample and at first 64.",),
        ("IMAGE_CHANNELS = 3",),
        SHOW_MASKS,
    ),
    "voc-faster-rcnn": Starter(
        VOC_INPUT,
        VOC_OUTPUT,
        "images",
        "torchvision's FasterRCNN: losses in training, else detections",
        (
            "a torchvision FasterRCNN with a feature pyramid and a FastRCNNPredictor for classes and background",
            "the backbone is MobileNetV3-Large; on the sample any backbone will do",
        ),
        ("Class 0 is the background. torchvision.models.detection has the parts.",),
        ("NUM_CLASSES = 20 + 1  # with the background; 4 + 1 on the sample",),
        SHOW_BOXES,
        2,
    ),
    "voc-retinanet": Starter(
        VOC_INPUT,
        VOC_OUTPUT,
        "images",
        "torchvision's RetinaNet: losses in training, else detections",
        (
            "a torchvision RetinaNet with a feature pyramid, its head replaced by a RetinaNetClassificationHead",
            "the backbone is ResNet50; on the sample any backbone will do",
        ),
        ("Class 0 is the background. torchvision.models.detection has the parts.",),
        ("NUM_CLASSES = 20 + 1  # with the background; 4 + 1 on the sample",),
        SHOW_BOXES,
        2,
    ),
}


def write_starter(task_id: str, folder: Path, overwrite: bool = False) -> list[Path]:
    """Write net.py and TASK.ipynb into a folder.

    Raises:
        FileExistsError: One is there, and `overwrite` is not set; nothing is written then.
    """
    paths = [folder / "net.py", folder / f"{task_id}.ipynb"]
    if not overwrite and (there := [path for path in paths if path.exists()]):
        raise FileExistsError(f"{there[0]} is there already: choose another --dir, or replace it with --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(paths[0], network_file(task_id))
    atomic.write_text(paths[1], json.dumps(notebook(task_id), indent=1, ensure_ascii=False) + "\n")
    return paths


def _bar(spec: Spec) -> str:
    metric = {"map": "mAP (COCO, IoU from 0.50 to 0.95)"}.get(spec.metric, spec.metric)
    return f"no bar; the metric is test {metric}" if spec.bar is None else f"{100 * spec.bar:g} % test {metric}"


def network_file(task_id: str) -> str:
    """The content of net.py: signature, shapes, architecture and bar; the network itself is to be written."""
    spec, starter = get_task(task_id).SPEC, STARTERS[task_id]
    is_detector = spec.dataset == "voc"
    lines = [
        f'"""Your own network for {task_id}.',
        "",
        _fill("Task    ", spec.network),
        _fill("Input   ", starter.inputs),
        _fill("Output  ", starter.outputs),
        _fill("Bar     ", _bar(spec)),
        "",
        "Architecture:",
        *(_fill("- ", line) for line in starter.architecture),
        "",
        *(_fill("", line) for line in starter.notes),
        "",
        "decathlon grade net.py --data sample    checks it in stages, on data made on the spot",
        "decathlon grade net.py                  on the official data",
        '"""',
        "",
        "from torch import nn" if is_detector else "from torch import Tensor, nn",
        "",
        f'TASK = "{task_id}"',
        *starter.constants,
        "",
        "",
        *(_detector_code() if is_detector else _module_code(starter)),
    ]
    return "\n".join(lines) + "\n"


def _fill(label: str, text: str) -> str:
    """A label and a text, wrapped and indented below it."""
    return textwrap.fill(text, WIDTH, initial_indent=label, subsequent_indent=" " * len(label))


def _module_code(starter: Starter) -> list[str]:
    pair = starter.returns.partition(":")[0]
    return [
        "class Net(nn.Module):",
        '    """The network."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        "        raise NotImplementedError  # make the layers here: self.NAME = nn.…",
        "",
        f"    def forward(self, {starter.argument}: Tensor) -> {pair}:",
        f'        """{starter.argument.capitalize()} as described above -> {starter.returns.partition(": ")[2]}."""',
        "        raise NotImplementedError  # compute the output; a comment with the shape after each layer helps",
        "",
        "",
        "def net() -> nn.Module:",
        '    """The network, with its initial weights; grade and train call this without arguments."""',
        "    return Net()",
    ]


def _detector_code() -> list[str]:
    return [
        "def net() -> nn.Module:",
        '    """The detector, with its initial weights; grade and train call this without arguments."""',
        "    raise NotImplementedError  # build backbone, anchors and detector here",
    ]


def notebook(task_id: str) -> dict[str, Any]:
    """A notebook: data, examples, training through the public API, and what happened."""
    spec, starter = get_task(task_id).SPEC, STARTERS[task_id]
    torch_import = "\nimport torch" if "torch." in starter.show else ""
    cells = [
        _markdown(
            f"# {task_id}\n\n{spec.network[0].upper()}{spec.network[1:]}. Bar: {_bar(spec)}.\n\nWrite the network in "
            "`net.py` beside this notebook; in Colab, upload it into the files on the left.\n\n"
            "The next cell installs decathlon where it is missing: in Colab upload the wheel, too, that\n`make dist` "
            "builds in a checkout of the repository."
        ),
        _code(INSTALL),
        _code(
            f"from IPython.display import Image, display\nfrom matplotlib import pyplot as plt{torch_import}\n\n"
            "import decathlon"
        ),
        _markdown('**The data.** `"sample"` is made on the spot; `"official"` are the task\'s own data.'),
        _code(f'TASK, DATA = "{task_id}", "sample"\ndata = decathlon.load_data(TASK, data=DATA)\ndata.sizes'),
        _code(starter.show),
        _markdown(
            "**Train.** `None` is the reference network, the task's own. Once `net.py` is written, set "
            '`"net.py:net"`;\n`!decathlon grade net.py --data {DATA} --quick` says what to fix first. Keyword '
            'arguments such as\n`epochs=10` or `optimizer={"lr": 0.01}` change the recipe.'
        ),
        _code(
            f"MODEL = None\nrun = decathlon.train(TASK, data=DATA, model=MODEL, epochs={starter.epochs})\nrun.metrics"
        ),
        _markdown("**What happened.** The loss on the training data, and the metric on the validation split."),
        _code(_curves_code(spec)),
        _markdown("**What it sees**, on the validation split."),
        _code('for path in sorted((run.folder / "plots").glob("*.png")):\n    display(Image(path))'),
    ]
    for number, cell in enumerate(cells, 1):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _curves_code(spec: Spec) -> str:
    bar = "" if spec.bar is None else f'\nright.axhline({spec.bar}, linestyle=":", color="black", label="bar")'
    return (
        'epochs = [line["epoch"] for line in run.history]\n'
        "figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))\n"
        'left.plot(epochs, [line["train"]["loss"] for line in run.history], marker="o")\n'
        'left.set(xlabel="epoch", title="training loss")\n'
        f'right.plot(epochs, [line["validation"]["{spec.metric}"] for line in run.history], marker="o")'
        f'{bar}\nright.set(xlabel="epoch", title="validation {spec.metric}");'
    )


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def _code(text: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return empty | {"source": text.splitlines(keepends=True)}
