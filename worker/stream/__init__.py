"""Everything that is said to Redis: the only package that knows its commands, keys and replies."""
