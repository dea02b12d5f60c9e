"""What a run looks like: figures of plain numbers, and a page that reads records, nothing else.

`chart` and `figures` know numbers alone, so that a record can draw itself; `reading`, `sections`,
`page` and `watch` read run folders.
"""
