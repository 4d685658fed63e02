"""The whole system on one machine: recorded speech through a Redis, a worker and a store of its own, then compared.

Only the `demo` command and tests may import this.
"""
