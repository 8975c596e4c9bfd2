"""What travels beside an image: record, bill of materials, provenance, lock."""
