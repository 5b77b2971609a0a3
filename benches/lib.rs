//! Criterion benchmarks live beside this file, one a file.
