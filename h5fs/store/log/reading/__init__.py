"""Reading at a commit beside the process that writes: the file through its log, and when it may."""
