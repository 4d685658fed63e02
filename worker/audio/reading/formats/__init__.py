"""What files of each format tell about themselves that FFmpeg does not read, or takes at its word."""
