"""What files of the mount hold: arrays, texts, tables and pictures, and what is kept of them."""
