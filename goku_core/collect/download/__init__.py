"""From an address to a file named by its bytes: resumed, checked, bounded, and never from inside the network."""
