"""Finished blobs on a shared volume, on their way to a store that does not take them now.

A file goes `writing` → `spooled` → `uploading` → `done` by renames, and Redis forgets a blob's entries when it is
spooled. `summary` tells what lies in a directory.
"""

from worker.spool.report import Summary, summary

__all__ = ["Summary", "summary"]
