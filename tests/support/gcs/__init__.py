"""The Cloud Storage test server.

`faults.py` names faults and chooses which request meets one, `server.py` carries them out. `api.py` and `objects.py`
are the store itself.
"""
