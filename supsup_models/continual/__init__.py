"""Learning without task identity."""
