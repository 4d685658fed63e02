"""What all rooms share: ids, seals, events, states, causes. Values and pure functions: no I/O, no clock, no task."""
