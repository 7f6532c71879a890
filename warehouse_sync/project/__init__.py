"""The project on disk: the YAML file and the models, read, rendered and checked into frozen values."""
