"""Own pictures: loading a model and matching with it."""
