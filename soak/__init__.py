"""Driving a real service for long, and counting what should be zero."""
