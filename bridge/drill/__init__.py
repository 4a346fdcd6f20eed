"""Kills parts of a bridge under load, again and again, and accounts for every prompt."""
