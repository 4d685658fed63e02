"""Single blobs: what is stored, under which names, how it is read. Nothing here joins or changes them."""
