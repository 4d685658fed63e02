"""Finished blobs wait on a shared volume for a store that does not take them now; code that makes blobs stays outside.

A file goes `writing` → `spooled` → `uploading` → `done` by renames. The entries of a blob leave Redis when it is
spooled. `summary` and `summary_if_there` count the blobs in a directory.
"""

from worker.spool.report import Summary, summary, summary_if_there

__all__ = ["Summary", "summary", "summary_if_there"]
