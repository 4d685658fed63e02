"""What single file formats are like: headers, sizes, tags. Nothing here decodes audio."""
