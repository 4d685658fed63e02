"""A recording of which any part can be read: only the blobs that hold it are fetched and decoded."""
