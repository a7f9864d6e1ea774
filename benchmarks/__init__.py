"""Measurements: programs that print a few numbers and write them down as JSON."""
