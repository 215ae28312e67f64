"""How commands print: colours, sizes, progress."""
