"""HL7 version 2.5.1: observations out, orders in, both over MLLP."""
