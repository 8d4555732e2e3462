"""One file per dataset family: published layout in, the project's events out."""
