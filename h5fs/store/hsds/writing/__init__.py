"""What a mode that writes does to a domain: each change in an order in which nothing is lost."""
