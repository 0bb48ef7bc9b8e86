"""Presets, the command line and the local stack."""
