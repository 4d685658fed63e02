"""Tools for any asyncio program: metrics, logs, signals, tasks, waits, the CPU limit. Nothing here handles audio."""
