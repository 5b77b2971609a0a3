//! Mixture-of-experts transformer families: checkpoints in and out
