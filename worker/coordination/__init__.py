"""Decides which worker owns which partition, and takes its leases. Nothing here reads a chunk."""
