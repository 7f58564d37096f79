//! Counts what reading and answering a description costs, for the tests that say that it is linear
//! in its size.

use std::cell::Cell;

thread_local! {
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// Notes steps: a byte read, an entry of a table looked at.
pub(in crate::media::negotiation) fn done(steps: usize) {
    STEPS.set(STEPS.get() + steps);
}

/// The steps since the last call, on this thread.
pub(in crate::media::negotiation) fn take() -> usize {
    STEPS.replace(0)
}
