"""Two-dimensional pictures and stacks of slices: reading, preparing, and mapping back. Knows no torch."""
