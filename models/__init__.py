"""The programs of the project, one file each; ``python -m models`` lists them."""
