"""The bench: the worker beside a bare libopus loop and its predecessor's way; `make bench` runs it."""
