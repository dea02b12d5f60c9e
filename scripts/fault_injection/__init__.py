"""What `scripts/faults` runs: kills, hostile files, odd requests, full disks and other mishaps.

An attempt is survived if the command ends as it promises (0 done, 1 failed, 2 refused, and one line
that says why, no traceback, no signal), runs nothing from data, overwrites nothing, and what is
there once it is done is what an undisturbed run leaves, to the last bit.
"""
