"""The fast way of a C-STORE: pynetdicom negotiates, this package receives, stores and answers.

Reading order: `block` (where bytes land), `exchange` (from the socket to an answer), `association` (how it
is joined to pynetdicom), `forward` (the keys of a data set), `acceptors` (one port, several processes).
"""
