"""The guide for one's own project: its commands and its code do what it says."""
