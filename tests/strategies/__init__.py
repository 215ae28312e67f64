"""Hypothesis strategies for the values that rooms of h5fs exchange."""
