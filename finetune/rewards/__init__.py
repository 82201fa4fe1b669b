"""Rewards: pure functions from a model's text to a number, for training and evaluation alike. No ML library is imported."""
