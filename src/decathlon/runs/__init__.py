"""Run folders: written, validated and loaded; the weights that ship with the package."""
