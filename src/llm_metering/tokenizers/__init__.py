"""Counting text where the provider reported nothing."""
