"""Compares a backward written by hand with the tape, and names the term that is wrong."""
