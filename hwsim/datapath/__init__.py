"""Values: the exact and the fixed profile of the datapath, and comparisons of them."""
