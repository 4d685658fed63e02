"""The formats: stream entries, object names, metadata, the Opus container and its encryption.

Bytes go in and bytes come out. Nothing here does I/O or imports `worker`.
"""
