"""One fully connected layer on RoBERTa's embeddings, for an experiment of docs/tasks/imdb-roberta.md."""

from torch import nn


def linear() -> nn.Module:
    """Embeddings (N, 256) -> logits (N, 2): logistic regression, with the embeddings standardised over the batch."""
    return nn.Sequential(nn.BatchNorm1d(256, affine=False), nn.Linear(256, 2))
