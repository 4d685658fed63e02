"""What any asyncio program needs: metrics, logs, signals, tasks, the CPU limit. Nothing here handles audio."""
