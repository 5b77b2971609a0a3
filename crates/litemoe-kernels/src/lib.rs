//! Frozen weights, the operations Burn lacks, and the memory map
