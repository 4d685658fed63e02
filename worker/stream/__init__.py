"""All communication with Redis: only this package knows its commands, keys and replies. No store is asked here."""
