"""What operators see of a running worker, and how it ends. Nothing here decides about audio."""
