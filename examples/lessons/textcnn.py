"""TextCNN with another pooling over time, for the experiments of docs/tasks/imdb-textcnn.md, in the sample's size."""

import torch
from torch import Tensor, nn

VOCABULARY = 30_002  # the largest of the recipe, with padding (0) and the unknown token (1)


class PooledCNN(nn.Module):
    """Token ids (N, L), padded with 0 -> logits (N, 2)."""

    def __init__(self, embedding_dim: int = 32, kernel_sizes: tuple[int, ...] = (1, 2, 3), filters: int = 32) -> None:
        super().__init__()
        self.vectors = nn.Embedding(VOCABULARY, embedding_dim, padding_idx=0, sparse=True)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_dim, filters, size) for size in kernel_sizes)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(filters * len(kernel_sizes), 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Convolutions, pooling over time, one fully connected layer."""
        vectors = self.vectors(tokens).transpose(1, 2)  # (N, embedding_dim, L)
        is_word = (tokens != 0).unsqueeze(1)  # (N, 1, L)
        pooled = []
        for convolution in self.convolutions:
            activations = convolution(vectors).relu()  # (N, filters, L - kernel size + 1)
            pooled.append(self.pool(activations, is_word[..., : activations.shape[2]]))
        return self.output(self.dropout(torch.cat(pooled, 1)))

    def pool(self, activations: Tensor, is_word: Tensor) -> Tensor:
        """The mean over the words, (N, filters): every n-gram counts, a strong one no more than its share."""
        return (activations * is_word).sum(2) / is_word.sum(2).clamp(min=1)


def mean_over_time() -> nn.Module:
    """The mean over time instead of the maximum."""
    return PooledCNN()
