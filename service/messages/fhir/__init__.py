"""HL7 FHIR R4: one file per resource, each a pure function of what is known.

Resources are built as plain JSON and checked against the standard's models by the tests: the models take a
second and thirty megabytes to load, in every process that would use them.
"""
