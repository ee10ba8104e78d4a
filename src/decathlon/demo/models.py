"""Networks, loaded on first use and then kept: the weights that ship with the package, or the newest runs."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from sklearn.ensemble import RandomForestClassifier

from decathlon.data import embeddings
from decathlon.data.base import DataInfo
from decathlon.reporting.html import percent
from decathlon.runs.folder import read_json
from decathlon.runs.load import Loaded, find_run, load_run
from decathlon.tasks.base import get_task


@dataclass(frozen=True)
class Network:
    """A loaded network and its description.

    Attributes:
        loaded: Task, network in evaluation mode, recipe and config.
        description: Training data and test metric: one line for the page.
        limit: The first limitation on its card.
    """

    loaded: Loaded
    description: str
    limit: str

    @property
    def model(self) -> Any:
        """The network."""
        return self.loaded.model

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.loaded.info.classes

    @property
    def info(self) -> DataInfo:
        """The classes and other metadata of its training data."""
        return self.loaded.info

    @cached_property
    def forest(self) -> RandomForestClassifier:
        """The autoencoder's forest, fitted once; it predicts in one thread, which is faster for single inputs."""
        from decathlon.tasks import mnist_autoencoder

        forest = mnist_autoencoder.fit_forest(self.model, cast(Any, self.loaded.recipe))
        forest.n_jobs = 1
        return forest

    @cached_property
    def encoder(self) -> embeddings.Encoder:
        """The encoder whose embeddings `imdb-roberta` classifies.

        Raises:
            ValueError: It is not the encoder that the network was trained with.
        """
        recipe: Any = self.loaded.recipe
        encoder = embeddings.load_encoder(
            recipe.encoder, recipe.max_length, recipe.layers, recipe.pooling, download=False
        )
        if encoder.name != self.info.encoder:
            raise ValueError(
                f"imdb-roberta was trained on embeddings of {self.info.encoder}, but the encoder here is {encoder.name}"
            )
        return encoder


_networks: dict[str, Network] = {}
_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def get_network(task_id: str) -> Network:
    """The network of a task; the first call loads it, while others for the same task wait.

    Raises:
        ValueError: There is none, or it is damaged; in one line.
    """
    if task_id not in _networks:
        with _locks[task_id]:
            if task_id not in _networks:
                folder = find_run(task_id, None)
                network = Network(load_run(folder), *describe(task_id, folder))
                warm_up(network)
                _networks[task_id] = network
    return _networks[task_id]


def warm_up(network: Network) -> None:
    """Make the cached properties of a network now, so that no two visitors make them at once."""
    if network.loaded.task.SPEC.id == "mnist-autoencoder":
        _ = network.forest
    if network.loaded.task.SPEC.id == "imdb-roberta":
        _ = network.encoder


def read_card(task_id: str, folder: Path | None = None) -> dict[str, Any]:
    """The card of the weights that ship, or else the run's summary.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    folder = folder or find_run(task_id, None)
    card_path = folder / "card.json"
    return read_json(card_path if card_path.exists() else folder / "summary.json")


def describe(task_id: str, folder: Path) -> tuple[str, str]:
    """`Trained on mnist: accuracy 99.36 % on its test split (3 runs: 99.28 ± 0.02 %).`, and the first limitation."""
    card = read_card(task_id, folder)
    metric = card.get("metric", get_task(task_id).SPEC.metric)
    text = f"Trained on {card['data']}: {metric} {percent(card['value'])} on its test split"
    if (published := card.get("published")) and published["n"] > 1:
        text += f" ({published['n']} runs: {100 * published['mean']:.2f} ± {100 * published['deviation']:.2f} %)"
    sample_limit = "It was trained on generated sample data only."
    limits = card.get("limits") or ([sample_limit] if card["data"].endswith("-sample") else [""])
    return f"{text}.", limits[0]
