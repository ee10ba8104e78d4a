"""The networks, one file each: torch only, no training code."""
