"""Which worker owns which partition. Nothing here reads a chunk."""
