"""Audio files and raw samples. Nothing here knows batches, Redis or a store."""
