"""Audio files and raw samples. Nothing here knows of batches, Redis or a store."""
