"""The tasks, one file each. A file that is put here is found, listed, trained and tested without further ado."""
