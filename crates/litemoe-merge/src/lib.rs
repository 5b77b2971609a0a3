//! Makes and applies a plan that prunes and merges experts under a byte budget
