"""DICOMweb, answering side: what a file becomes on its way out. Knows no database and no HTTP server.

`media` negotiates and writes messages, `listing` reads what searches match, `metadata` writes DICOM JSON,
`frames` hands out stored or decoded frames, `rendering` makes pictures of them.
"""
