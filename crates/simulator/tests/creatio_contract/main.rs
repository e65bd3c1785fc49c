//! The package contract as one table with two columns: the simulator of Creatio and the package
//! itself, which runs over the engine in `creatio/engine`. The package's column needs mono
//! (`make test-creatio` installs it) and is left out, loudly, where there is none; with `CI` set it
//! is an error.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod contract;
mod package;
mod site;
