//! What makes a channel work: validate -> observe -> plan -> execute -> report.
