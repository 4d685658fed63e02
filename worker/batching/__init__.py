"""Chunks become batches, and batches become audio. Decisions are made here; nothing here asks Redis or a store."""
