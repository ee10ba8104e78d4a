"""Ten classic deep-learning tasks: one readable file each, one command each, every number proved."""

__version__ = "0.1.0"
