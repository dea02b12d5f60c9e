"""What teachers are worth on some data, before anyone trains: `collegium.audit.examine.audit`.

head-room, pairs    pure functions of answers: what committees reach, who errs with whom
calibration         confidence against accuracy
suspects            what looks mis-loaded, and what would mend it
"""
