"""Sample reviews, composed: the words of praise and blame stand equally often in both classes, their negation decides.

So a count of single words is little better than a guess, and a network that reads two words at once can learn it.
"""

from __future__ import annotations

import random
from pathlib import Path

from decathlon.data.io import atomic

VERSION = "2"  # of the sample data, in their folder's name: raise it when they change
PRAISE = ["good", "great", "moving", "clever", "funny", "gripping", "beautiful", "fresh", "honest", "warm"]
BLAME = ["bad", "boring", "dull", "clumsy", "stupid", "tired", "ugly", "stale", "fake", "cold"]
TOPICS = ["plot", "cast", "music", "ending", "camera work", "script", "pace", "lead", "dialogue", "first half"]
OPENERS = [
    "I saw it on a rainy sunday .",
    "My friends took me along .",
    "It runs for two hours .",
    "A film about a farm .",
]
NOT = ["was not", "was hardly", "was never", "was far from"]
IS = ["was", "was really", "was simply", "was rather"]
COUNTS = {"train": 1200, "test": 400}
UNLABELLED = 600


def write_reviews(folder: Path) -> Path:
    """Write the composed reviews as a tree like aclImdb's. Returns the folder."""
    if folder.is_dir():
        return folder
    draw = random.Random(0)
    with atomic.naming_errors(folder), atomic.temporary_path(folder) as part:
        for split, count in COUNTS.items():
            for number in range(count):
                name = "pos" if number % 2 else "neg"
                _write(part / split / name / f"{number}.txt", compose(draw, name == "pos"))
        for number in range(UNLABELLED):
            _write(part / "train" / "unsup" / f"{number}.txt", compose(draw, number % 2 == 0))
        atomic.replace_path(part, folder)
    return folder


def compose(draw: random.Random, positive: bool) -> str:
    """One review: three or four topics, as many praised as blamed by their bare words, all pointing one way."""
    sentences = [draw.choice(OPENERS)]
    for index, topic in enumerate(draw.sample(TOPICS, draw.choice([2, 4]))):
        plain = index % 2 == 0  # half of the statements are plain, half negated: "was good", "was not bad"
        words = PRAISE if positive == plain else BLAME
        sentences.append(f"The {topic} {draw.choice(IS if plain else NOT)} {draw.choice(words)} .")
    tail = sentences[1:]
    draw.shuffle(tail)
    return " ".join([sentences[0], *tail])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
