"""The bench: the worker beside a bare libopus loop and its predecessor's way; `audio-batch-worker bench` runs it."""
