"""How an artefact is made: a record trained, chosen, exported and calibrated. The only home of torch."""
