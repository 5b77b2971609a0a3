//! Tokenizer, chat template, and rows of text as token ids with a completion mask
