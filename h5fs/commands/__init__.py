"""What the command does beside mounting: each module one word of the command line.

A module has ``HELP`` (a line), ``add_arguments(parser)`` and ``run(arguments)``, which returns the
exit status. They use the tree and the store as a mount does, without the kernel.
"""
