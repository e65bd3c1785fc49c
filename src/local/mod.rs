//! The same channel on one machine, no cluster.
