"""The document that leads into a project of one's own: its commands and its code do what it says."""
