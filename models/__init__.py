"""Numbers: volumes in, anomaly scores out. Knows no DICOM and no database."""
