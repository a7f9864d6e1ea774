"""Adapters: how the suite speaks to each implementation that ships with it."""
