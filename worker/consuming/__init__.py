"""Owned streams are read, chunks go to batching, and sealed batches go to delivery.

Code that asks a store does not belong here.
"""
