//! How much each expert of a mixture-of-experts model matters to an app
