"""Streams are read, and every chunk finds its way to batching and on to delivery. No store is asked here."""
