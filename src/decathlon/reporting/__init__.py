"""Reports, the scoreboard and comparisons."""
