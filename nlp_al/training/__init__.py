"""Fitting models on the labelled set."""
