"""Ids, seals, events, states and causes that all packages share: values and pure functions, no I/O, clock or task."""
