//! The client of the MAX Bot API.
