"""Commands that read and change recordings: they need the store, and Redis only where audio may still be there."""
