"""Reading spans of layers instead of whole ones: seek points, the index of them, its use."""
