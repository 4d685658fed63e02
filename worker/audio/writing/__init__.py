"""Writes audio files: WAV, bare samples, FLAC, MP3 and Ogg Opus."""
