"""The small data sets that `--data sample` makes."""
