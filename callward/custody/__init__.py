"""Custody: roots and their epochs, the register of month keys, its exports, signatures and persons who approve."""
