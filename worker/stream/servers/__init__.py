"""The servers behind REDIS_URL: where they are, how to connect, and which of them has which key.

The requests themselves belong outside.
"""
