"""Tool-output compressors, one file each. Still empty."""
