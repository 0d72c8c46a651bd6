"""Queries for pages and commands: each one cheap on a million exchanges (by key, by index, counts with a cap)."""
