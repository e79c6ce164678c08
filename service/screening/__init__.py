"""Screening a cohort: its studies in, a ranked table and a report out."""
