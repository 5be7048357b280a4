"""Timings side by side: this package against what a user would otherwise take, in one run on one machine."""
