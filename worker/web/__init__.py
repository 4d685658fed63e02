"""The page: find a conversation, look at it, listen to it, and watch the workers.

A server of its own, never the worker's. It reads what the archive and the inspection of Redis show, and decides nothing
about audio. `recordings` shows what is stored, `operating` what happens now, `static` is what the browser gets.
"""
