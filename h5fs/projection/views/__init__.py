"""What people look at beside the arrays: tables, pictures and text.

Pure: a view's size follows from the dataset's shape and type alone, and its bytes from elements
that somebody else has read. Nothing here reads, and nothing here writes back.
"""
