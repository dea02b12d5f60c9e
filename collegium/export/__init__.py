"""The student alone, taken to where it runs: written, loaded again, compared, described.

options, places             what is asked for, and what is refused at once; import no torch
students, predicting        a finished run's student, and what it says of image files
subject, formats, tracing   what is written, and how it is read back
quantising                  the same in 8-bit integers
measures                    differences, accuracy, latency, size
loading, card, tables       how others load it; the model card; the table
exporting                   all of it, in order
"""
