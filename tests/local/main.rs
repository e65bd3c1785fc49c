//! Channels from files on one machine, against doubles of MAX, MANGO OFFICE and Creatio.

mod crashes;
mod lifecycle;
mod troubles;
mod world;
