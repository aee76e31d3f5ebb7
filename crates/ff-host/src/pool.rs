//! Memory of tasks, kept by threads from call to call: for a molecule, making it anew would take as long as its messages.

use std::any::Any;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Pieces that a thread keeps: those of the forward and the backwards of a few models.
const MOST: usize = 16;

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// The sizes that a piece of memory was made for.
pub(crate) type Sizes = [usize; 8];

/// Memory that goes back to its thread.
pub(crate) struct Pooled<S: 'static>(Option<Box<(Sizes, S)>>);

impl<S: 'static> Pooled<S> {
    /// What this thread has kept of these sizes, or a new one. What it holds is what its last user left there.
    pub fn take(sizes: Sizes, make: impl FnOnce() -> S) -> Self {
        let kept = KEPT.with_borrow_mut(|kept| {
            let fits = |piece: &Box<dyn Any>| piece.downcast_ref::<(Sizes, S)>().is_some_and(|(of, _)| *of == sizes);
            let at = kept.iter().rposition(fits)?;
            kept.swap_remove(at).downcast().ok()
        });
        Self(Some(kept.unwrap_or_else(|| Box::new((sizes, make())))))
    }
}

impl<S: 'static> Drop for Pooled<S> {
    fn drop(&mut self) {
        let Some(piece) = self.0.take() else { return };
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() == MOST {
                kept.remove(0);
            }
            kept.push(piece);
        });
    }
}

impl<S: 'static> Deref for Pooled<S> {
    type Target = S;

    #[inline(always)]
    fn deref(&self) -> &S {
        &self.0.as_ref().expect("taken by drop alone").1
    }
}

impl<S: 'static> DerefMut for Pooled<S> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0.as_mut().expect("taken by drop alone").1
    }
}
