"""Bytes by range, wherever they are kept: in a local file, or in an object on another machine.

``interface`` is what the readers ask. ``remote_files`` opens objects on other machines.

No ``os.stat_result`` leaves this room.
"""
