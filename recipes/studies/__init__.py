"""Studies: one script for each claim, which measures it and draws it."""
