"""The words that all rooms share: ids, seals, chunks, events. Values and pure functions: no I/O, no clock, no task."""
