"""Commands other than mounting: one module for each word of the command line.

Each module has ``run(arguments)``, which returns the exit status; ``parsers.py`` declares the
arguments. Commands use the tree and the store as a mount does, without the kernel.
"""
