//! The client of the MANGO OFFICE APIs.
