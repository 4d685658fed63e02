"""Consumes PCM chunks from Redis streams and stores each conversation-minute as one encrypted Opus blob."""

__version__ = "0.1.0"
