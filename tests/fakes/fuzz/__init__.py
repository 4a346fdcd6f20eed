"""Malformed input by the thousand: recorded frames, broken in every way that a few lines can think of."""
