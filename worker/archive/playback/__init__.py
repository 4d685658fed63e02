"""Turns blobs into one playable recording. Nothing here changes the store."""
