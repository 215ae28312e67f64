"""Commands other than mounting: ``h5fs WORD`` calls ``run(arguments)`` of the module ``WORD``.

``run`` returns the exit status; ``COMMANDS`` in ``cli.parsers`` declares the arguments. Modules
without ``run`` have what several commands need. Commands use the tree and the store as a mount
does, without the kernel.
"""
