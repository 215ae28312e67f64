"""What ``h5fs tree`` lists: entries of one file, and of a folder of files."""
