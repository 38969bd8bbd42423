"""The building blocks: each module is a noun from the papers."""
