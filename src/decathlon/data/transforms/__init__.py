"""Augmentation, detection batches and tokenisation."""
