"""RoBERTa with the heads of its pre-training (Liu et al. 2019, arXiv:1907.11692). The encoder is transformers'."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

PAD = 1  # the padding id; positions are counted from the number after it
EMBEDDING_LR_SCALE = 0.5  # of the token embeddings, which are tied to the output matrix


class PretrainingOutput(NamedTuple):
    """Token logits (M, vocabulary), document embeddings (N, 3 · hidden), n-gram (N, K) and sentiment logits (N,)."""

    token_logits: Tensor
    document: Tensor
    ngram_logits: Tensor
    sentiment_logits: Tensor


class RobertaForPretraining(nn.Module):
    """An encoder with a masked-language-modelling head, and heads that predict from a document embedding.

    The document embedding is the mean over the tokens of three layers' outputs, concatenated.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Embedding dimension.
        layers: Transformer layers.
        attention_heads: Attention heads of a layer.
        max_positions: Number of position embeddings.
        n_ngrams: N-grams to predict from the document embedding; 0 for no head.
        sentiment_head: Whether there is a binary head that predicts a pseudo-label of the sentiment.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        layers: int,
        attention_heads: int,
        max_positions: int,
        n_ngrams: int = 0,
        sentiment_head: bool = False,
    ) -> None:
        super().__init__()
        config = RobertaConfig(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=attention_heads,
            intermediate_size=4 * hidden_size,
            max_position_embeddings=max_positions + PAD + 1,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            hidden_dropout_prob=0.0,  # windows are sampled anew in each epoch: little risk of overfitting
            attention_probs_dropout_prob=0.0,
            bos_token_id=0,
            pad_token_id=PAD,
            eos_token_id=2,
        )
        self.encoder = RobertaModel(config, add_pooling_layer=False)
        self.encoder.embeddings.word_embeddings.lr_scale = EMBEDDING_LR_SCALE
        with torch.no_grad():  # post-norm: small initial residual branches allow a higher learning rate
            for layer in self.encoder.encoder.layer:
                for linear in (layer.attention.output.dense, layer.output.dense):
                    linear.weight.mul_((2 * layers) ** -0.5)
        self.pooled_layers = (0, layers // 2, layers)
        self.dense, self.norm = nn.Linear(hidden_size, hidden_size), nn.LayerNorm(hidden_size)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        # Standardised over the batch, as the inputs of imdb-roberta's classifier are later.
        self.standardise = nn.BatchNorm1d(3 * hidden_size, affine=False, track_running_stats=False)
        self.ngram_head = nn.Linear(3 * hidden_size, n_ngrams) if n_ngrams else None
        self.sentiment_head = nn.Linear(3 * hidden_size, 1, bias=False) if sentiment_head else None
        if self.ngram_head is not None:
            nn.init.normal_(self.ngram_head.weight, std=0.02)
        if self.sentiment_head is not None:
            nn.init.zeros_(self.sentiment_head.weight)

    @torch.no_grad()
    def initialise(self, token_counts: Tensor, ngram_counts: Tensor, embeddings: Tensor) -> None:
        """Initialise output biases to log frequencies, and token embeddings.

        Args:
            token_counts: (vocab_size,).
            ngram_counts: (at most n_ngrams,).
            embeddings: Float (vocab_size, hidden_size), or (0, hidden_size) to keep the random initialisation.
        """
        self.bias.copy_(log_frequencies(token_counts))
        if self.ngram_head is not None:
            padded = F.pad(ngram_counts, (0, self.ngram_head.out_features - len(ngram_counts)))
            self.ngram_head.bias.copy_(log_frequencies(padded))
        if len(embeddings):
            self.encoder.embeddings.word_embeddings.weight.copy_(embeddings)

    def forward(self, token_ids: Tensor, masked: Tensor) -> PretrainingOutput:
        """Logits of the masked tokens only, since the output matrix is large; in training of the heads, too.

        Args:
            token_ids: int64 (N, L), nothing padded, from position 0.
            masked: bool (N, L), M of them true.
        """
        states = self.encoder(input_ids=token_ids, output_hidden_states=True).hidden_states  # layers + 1 of (N, L, h)
        hidden = self.norm(F.gelu(self.dense(states[-1][masked])))  # (N, L, h) -> (M, h)
        token_logits = F.linear(hidden, self.encoder.embeddings.word_embeddings.weight, self.bias)  # tied weights
        means = torch.cat([states[layer].float().mean(1) for layer in self.pooled_layers], 1)  # (N, 3 · h)
        none = means[:, :0]
        if not self.training:  # the heads are for training only, and a single review has no variance
            return PretrainingOutput(token_logits, none, none, none)
        document = self.standardise(means)
        ngram_logits = self.ngram_head(document) if self.ngram_head is not None else none
        sentiment_logits = self.sentiment_head(document)[:, 0] if self.sentiment_head is not None else none
        return PretrainingOutput(token_logits, document, ngram_logits, sentiment_logits)


def log_frequencies(counts: Tensor) -> Tensor:
    """Log of smoothed relative frequencies (N,)."""
    smoothed = counts.float() + 1
    return (smoothed / smoothed.sum()).log()
