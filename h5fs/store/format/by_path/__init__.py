"""A dataset found by its path and described by its header, one file after another."""
