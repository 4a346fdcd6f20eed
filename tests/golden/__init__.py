"""Recordings of what others really said, and the program that records them again."""
