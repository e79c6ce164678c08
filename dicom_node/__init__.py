"""DICOM: receives studies, reads series, builds and delivers result objects. Knows no database."""
