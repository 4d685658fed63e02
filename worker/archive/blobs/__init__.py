"""Single blobs: how they are listed, compared and read. Nothing here merges or changes blobs."""
