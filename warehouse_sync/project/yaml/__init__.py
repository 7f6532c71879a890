"""The YAML file: read, expanded, checked against its sections, every problem in the user's words."""
