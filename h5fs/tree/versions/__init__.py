"""A file that changes below a mount: one tree for each version of it."""
