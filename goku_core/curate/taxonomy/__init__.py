"""Taxonomy: 9 primary classes and 86 sub-classes of clips, and the balance among them (paper section 4.4)."""
