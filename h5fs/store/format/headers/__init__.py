"""Object headers of many objects, read in few calls and walked by numpy."""
