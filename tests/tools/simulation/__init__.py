"""Whole worlds in virtual time. `world.py`: what happens to workers, Redis and the store, such as kills and failovers;
`faults.py`: what becomes of a single request; `oracle.py`: what must be true at the end."""
