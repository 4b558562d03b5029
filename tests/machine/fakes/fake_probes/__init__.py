"""Probes that misbehave, one file each, as a broken package would."""
