"""Physics variables computed from reconstructed particles."""
