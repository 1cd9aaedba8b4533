"""`ravecodec eval`: measures, the run that takes them, the page that shows them, and the listening
test."""
