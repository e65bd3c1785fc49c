//! A double of MANGO OFFICE's server API.
