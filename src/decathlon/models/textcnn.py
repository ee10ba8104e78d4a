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
        answers, _ = self.strongest(tokens)
        return self.output(self.dropout(answers))

    def strongest(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Each filter's largest answer in a text, and the place of the first word it was given for.

        Returns:
            Answers, and places, both (N, filters · widths).
        """
        if (
            not torch.compiler.is_exporting()
        ):  # an exported graph has no sizes that depend on values; see docs/export.md
            longest = max(*self.widths, int((tokens != PAD).sum(1).max()))
            tokens = nn.functional.pad(tokens, (0, longest))[:, :longest]  # at least as long as the widest filter
        vectors = self.vectors(tokens).transpose(1, 2)  # (N, L) -> (N, L, vector) -> (N, vector, L)
        word = (tokens != PAD).unsqueeze(1)  # (N, 1, L)
        answers, places = [], []
        for convolution in self.convolutions:
            maps = convolution(vectors).relu()  # (N, filters, L - width + 1)
            # An answer that starts behind the last word is 0, as small as ReLU's answers get.
            value, place = (maps * word[..., : maps.shape[2]]).max(2)  # (N, filters), twice
            answers.append(value)
            places.append(place)
        return torch.cat(answers, 1), torch.cat(places, 1)

    def spoken_for(self, tokens: Tensor, label: int) -> Tensor:
        """How much each word of one text (1, L) spoke for a class, through the n-grams that the maximum chose: (L,)."""
        return self.told(tokens)[1][0, label]

    def told(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, classes), and how much each word of each text (N, L) spoke for each class: (N, classes, L)."""
        answers, places = self.strongest(tokens)
        scores, out = self.output(self.dropout(answers)), self.output.weight
        spoken = answers[:, None] * (out - out.mean(0))  # (N, filters · widths) -> (N, classes, filters · widths)
        weights = torch.zeros(len(tokens), len(out), tokens.shape[1], device=tokens.device)
        for number, width in enumerate(self.widths):
            chosen = slice(number * self.filters, (number + 1) * self.filters)
            for offset in range(width):  # an n-gram's weight, shared evenly among its words
                place = (places[:, None, chosen] + offset).clamp(max=tokens.shape[1] - 1)
                weights = weights.scatter_add(2, place.expand(-1, len(out), -1), spoken[..., chosen] / width)
        return scores, weights


class Told(nn.Module):
    """A TextCNN that says with its scores which words decided."""

    def __init__(self, network: TextCNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """As `TextCNN.told`."""
        return self.network.told(tokens)
