"""Priors: densities and models fitted to the codes of normals after training."""
