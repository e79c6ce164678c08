"""Does the order help? A reading room in simulated time: arrivals, readers, and three orders of one list."""
