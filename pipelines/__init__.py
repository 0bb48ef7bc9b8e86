"""Flows: build() in the order of the picture, and the options as one frozen value."""
