"""Texts and files of data that tests make."""
