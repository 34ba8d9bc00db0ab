"""Releases of anonymized aggregates: declared, bounded, noised once, remembered."""
