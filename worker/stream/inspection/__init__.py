"""What people and gauges look at: an overview, the chunks of one conversation, dead letters, stray streams.

Commands move what no worker may move. No step of a batch's way belongs here.
"""
