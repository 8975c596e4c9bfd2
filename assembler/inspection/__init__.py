"""`assembler inspect`: what is in an image, from where, and why; with its record or without."""
