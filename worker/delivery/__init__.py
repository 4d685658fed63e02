"""A batch becomes one object that exists exactly once. Nothing here reads streams."""
