"""Objective terms: what a branch of a training step is asked to make small."""
