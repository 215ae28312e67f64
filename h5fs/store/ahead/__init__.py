"""What programs that go through a folder will ask for next, asked of a worker many at a time."""
