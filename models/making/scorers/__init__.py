"""Scorers: a trained method → scores of an image and its pixels, exportable as one graph."""
