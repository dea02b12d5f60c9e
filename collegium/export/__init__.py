"""Export of a student for use elsewhere: written, read back, compared, described.

options, paths              the request, and its checks; import no torch
load_student, predict       the student of a finished run, and its predictions for image files
model, formats, tracing     the exported model, and how each format is written and read
quantize                    the same in 8-bit integers
verify                      differences, accuracy, latency
snippets, card, tables      lines that load the file; the model card; the table
export                      all of it, in order
"""
