"""Packages handed from the reference to the real `spaces`, and back."""
