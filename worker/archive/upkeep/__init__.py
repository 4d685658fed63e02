"""Copies, deletes, converts and verifies stored blobs. Nothing here merges blobs into recordings."""
