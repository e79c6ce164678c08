"""What the node does besides storage: commitment, queries, performed steps, availability, worklists.

The calling side of each service is a function of a `Line`. The answering side is a handler that
`dicom_node.services.provider` registers with the receiver; like the receiver it needs nothing but its disk.
"""
