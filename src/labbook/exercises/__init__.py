"""Pen-and-paper exercises of the assignments: functions that compute the answers, and the page that shows the steps."""
