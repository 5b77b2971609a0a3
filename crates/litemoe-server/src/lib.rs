//! Serves one foundation and its adapters over an OpenAI-compatible HTTP interface
