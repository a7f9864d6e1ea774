"""Implementations that each break one thing, to prove that the clauses bite."""
