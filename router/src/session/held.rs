//! The bound on what this router holds for its clients: the bytes of all that is to be written and has no answer yet, and
//! of what waits for a `welcome`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Cheap to clone; all clones are one budget.
#[derive(Clone)]
pub struct HeldBytes {
    inner: Arc<Inner>,
}

struct Inner {
    max: usize,
    held: AtomicUsize,
}

/// A share of the budget, given back when dropped.
pub struct HeldPermit {
    inner: Arc<Inner>,
    bytes: usize,
}

impl HeldBytes {
    pub fn new(max: usize) -> Self {
        Self { inner: Arc::new(Inner { max, held: AtomicUsize::new(0) }) }
    }

    /// `None` where the budget is used up: the client is to try again.
    pub fn try_hold(&self, bytes: usize) -> Option<HeldPermit> {
        let before = self.inner.held.fetch_add(bytes, Ordering::Relaxed);
        let permit = HeldPermit { inner: self.inner.clone(), bytes };
        (before + bytes <= self.inner.max).then_some(permit)
    }

    pub fn held(&self) -> usize {
        self.inner.held.load(Ordering::Relaxed)
    }
}

impl HeldPermit {
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for HeldPermit {
    fn drop(&mut self) {
        self.inner.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_kept_and_given_back() {
        let budget = HeldBytes::new(100);
        let first = budget.try_hold(60).unwrap();
        assert!(budget.try_hold(60).is_none());
        let second = budget.try_hold(40).unwrap();
        assert_eq!(budget.held(), 100);
        drop((first, second));
        assert_eq!(budget.held(), 0);
    }
}
