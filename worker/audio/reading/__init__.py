"""Reads audio files of other programs: what is in them, and what should be."""
