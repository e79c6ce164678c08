"""A write-ahead log as the first home of instances.

A file for every instance costs two trips to the journal of the file system, each waiting for the last. A
record in a segment that was written before needs no journal: one write around the page cache, and the
instance is durable. The keeper turns records into the spool's files afterwards, when the burst is over or
the log runs low, and only then is the segment used again.

It is the default because it measured better on every set (docs/architecture.md has the numbers): 2.9 times
Orthanc's rate against 0.5 with files at one association of MR, 4.9 against 1.6 at eight, 4.6 against 4.2
for CR.

::

    <data>/log/spare.<generation>                        ready to be written
               ready-<owner>.0.<generation>              a receiver's next
               active-<owner>.<begun>.<generation>       written by one living receiver
               sealed.<begun>.<end>.<generation>         complete; the keeper's

Reading order: `record` (what a segment holds), `segments` (their life), `landing` (the receiver's side),
`keeper` (from records to files, and recovery, which is the same).
"""
