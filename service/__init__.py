"""People, time, database and web: what Vigil does with studies and scores."""

__version__ = "0.1.0"
