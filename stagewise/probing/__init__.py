"""Probes: small supervised readers that tell what a frozen representation holds."""
