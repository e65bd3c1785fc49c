//! The rules of a dialog as a state machine: (state, event, now) -> (state, effects). Pure: no I/O, no clock.
