"""Finished blobs on a shared volume, on their way to a store that does not take them now.

A blob goes `open` → `ready` → `uploading` → `done` by renames of its file, and Redis forgets its entries when it is
ready. `summary` tells what lies in a directory.
"""

from worker.spool.report import Summary, summary

__all__ = ["Summary", "summary"]
