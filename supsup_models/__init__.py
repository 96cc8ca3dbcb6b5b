"""Supermasks in Superposition on seeded, frozen networks."""
