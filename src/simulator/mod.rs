//! Doubles of MAX, MANGO OFFICE and Creatio.

pub mod creatio;
pub mod mango;
