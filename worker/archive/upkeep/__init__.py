"""Stored blobs are copied, deleted, converted and verified. Nothing here joins them."""
