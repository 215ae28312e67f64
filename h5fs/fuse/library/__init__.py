"""libfuse itself: which one there is, its structures, and how it is called."""
