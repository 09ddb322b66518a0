"""The measurements of the project, one file each; ``python -m benchmarks`` lists them."""
