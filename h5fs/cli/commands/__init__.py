"""What the command does beside mounting: each module one word of the command line.

A module has ``run(arguments)``, which returns the exit status; ``parsers.py`` declares what it is
given. They use the tree and the store as a mount does, without the kernel.
"""
