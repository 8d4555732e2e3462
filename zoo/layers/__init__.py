"""What networks are made of: dense layers, random numbers, input scaling, graphs, latent spaces, flows."""
