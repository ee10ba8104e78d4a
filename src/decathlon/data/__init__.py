"""Data sets: a file for each set, and what they share."""
