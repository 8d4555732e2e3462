"""The models of the zoo, one file each."""
