"""How good an artefact is, on data whose answer is known. No torch."""
