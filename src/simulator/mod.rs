//! Doubles of MAX, MANGO OFFICE and Creatio.
