"""Trainers: one network or several, together or against each other."""
