"""Blobs become one recording that people can hear. Nothing here changes what is stored."""
