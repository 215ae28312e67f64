"""Names in a mount that writes: what may have which name, and what a name stands for."""
