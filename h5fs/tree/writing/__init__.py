"""What a mode that writes adds to the tree: drafts, commits, names."""
