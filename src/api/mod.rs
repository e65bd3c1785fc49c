//! The `MaxChannel` resource: spec, status, conditions, the catalogue of documented errors, and what is wrong with a manifest. Pure.
