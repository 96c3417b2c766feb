"""Lesions and where they come from: the table of lesions, its sources, the drawn phantom."""
