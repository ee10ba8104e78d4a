"""TextCNN: convolutions over word vectors, the largest answer over time (Kim 2014, arXiv:1408.5882)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAD = 0  # the number of no word


class TextCNN(nn.Module):
    """Word numbers to class scores through convolutions of several widths side by side.

    Args:
        words: Rows of the table of word vectors.
        vector: Values in a word vector.
        widths: Words that a filter sees at once, one convolution each.
        filters: Filters of each width.
        dropout: Share of the filters' answers that is dropped in training.
        classes: Scores to give.
    """

    def __init__(
        self,
        words: int,
        vector: int = 100,
        widths: tuple[int, ...] = (1, 2, 3),
        filters: int = 100,
        dropout: float = 0.5,
        classes: int = 2,
    ) -> None:
        super().__init__()
        self.widths, self.filters = widths, filters
        # Sparse: a step changes the few thousand rows of its batch, and leaves the rest of the table alone.
        self.vectors = nn.Embedding(words, vector, padding_idx=PAD, sparse=True)
        self.convolutions = nn.ModuleList(nn.Conv1d(vector, filters, width) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(filters * len(widths), classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Word numbers (N, L), zeros after the last word -> scores (N, classes)."""
        return self.scores(self.maps(tokens))

    def scores(self, maps: list[Tensor]) -> Tensor:
        """Scores (N, classes) from what `maps` gives: each filter's largest answer counts."""
        return self.output(self.dropout(torch.cat([answers.max(2).values for answers in maps], 1)))

    def maps(self, tokens: Tensor) -> list[Tensor]:
        """Each filter's answer at each place of a text, 0 behind its last word.

        Returns:
            For each width (N, filters, L - width + 1).
        """
        if not torch.compiler.is_exporting():  # a graph has no sizes that depend on values: it must be given cut ones
            tokens = cut(tokens, max(self.widths))
        vectors = self.vectors(tokens).transpose(1, 2)  # (N, L) -> (N, L, vector) -> (N, vector, L)
        word = (tokens != PAD).unsqueeze(1)  # (N, 1, L)
        maps = [convolution(vectors).relu() for convolution in self.convolutions]
        # An answer that starts behind the last word is 0, as small as ReLU's answers get.
        return [answers * word[..., : answers.shape[2]] for answers in maps]

    def spoken_for(self, tokens: Tensor, label: int) -> Tensor:
        """How much each word of one text (1, L) spoke for a class, through the n-grams that the maximum chose: (L,)."""
        return self.told(tokens)[1][0, label]

    def told(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, classes), and how much each word of each text (N, L) spoke for each class: (N, classes, L)."""
        maps, out = self.maps(tokens), self.output.weight
        weights = torch.zeros(len(tokens), len(out), tokens.shape[1], device=tokens.device)
        for number, (width, answers) in enumerate(zip(self.widths, maps, strict=True)):
            strongest = answers.max(2, keepdim=True).values  # (N, filters, 1)
            # Rounding tells the answers to equal n-grams apart, and not everywhere alike: the first of them counts.
            places = (answers >= strongest * (1 - 1e-5)).float().argmax(2)  # (N, filters)
            rows = (out - out.mean(0))[:, number * self.filters : (number + 1) * self.filters]  # (classes, filters)
            spoken = strongest[:, None, :, 0] * rows  # (N, 1, filters) and (classes, filters) -> (N, classes, filters)
            for offset in range(width):  # an n-gram's weight, shared evenly among its words
                place = (places[:, None] + offset).clamp(max=tokens.shape[1] - 1)
                weights = weights.scatter_add(2, place.expand(-1, len(out), -1), spoken / width)
        return self.scores(maps), weights


def cut(tokens: Tensor, least: int) -> Tensor:
    """Word numbers (N, L), cut behind the longest text, but not to less than `least`."""
    longest = max(least, int((tokens != PAD).sum(1).max()))
    return nn.functional.pad(tokens, (0, longest))[:, :longest]


class Told(nn.Module):
    """A TextCNN that says with its scores which words decided."""

    def __init__(self, network: TextCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """As `TextCNN.told`."""
        return self.network.told(tokens)
