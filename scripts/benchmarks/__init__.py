"""What ``scripts/bench`` measures with: files, probes, contenders, rows, and reports of them.

A row is one line of the table: something timed through a mount, an alternative, and a bar. To add
one, write a function that measures it and put a ``Row`` into a ``*_ROWS`` tuple (see ``rows.py``).
"""
