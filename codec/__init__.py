"""The formats: stream entries, object names, the Opus container and its encryption. Bytes in, bytes out; no I/O."""
