"""Bytes by range, wherever they are kept: a local file. ``interface`` is what the readers ask.

No ``os.stat_result`` leaves this room.
"""
