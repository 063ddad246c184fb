"""Broken libraries, chapter by chapter, and with workflow/sabotage.py the claims that catch them."""
