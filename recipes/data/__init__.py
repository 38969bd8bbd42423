"""Data of the recipes: files and packages, and splits that hold out whole groups."""
