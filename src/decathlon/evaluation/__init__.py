"""Metrics, predictions, plots and architecture checks, a file for each kind of task."""
