//! The message half: from MAX to Creatio and back.
