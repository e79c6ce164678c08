"""The demonstration: studies from open data, and everything on this machine to show what becomes of them."""
