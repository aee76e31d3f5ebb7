//! `forgefield.Neighbors`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ff_model::{ModelError, Neighbors as Lists, Prediction, Wanted};
use ff_structure::Structure;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::engine::Engine;

/// What lists reach further than the cutoff by, Å, as in `forgefield md`.
const SKIN: f64 = 0.5;

/// Neighbour lists from call to call. A call takes what is here and puts back what it leaves: one beside it, in another thread, finds
/// nothing and builds its own, and one that fails leaves nothing.
#[pyclass(frozen, module = "forgefield")]
pub struct Neighbors {
    /// Å.
    skin: f64,
    state: Mutex<State>,
    reused: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Lists of the structures below; none while these have not come twice.
    lists: Option<Lists>,
    /// What was computed last.
    last: Vec<Structure>,
}

impl Neighbors {
    fn with_skin(skin: f64) -> PyResult<Self> {
        if Lists::new(skin).is_err() {
            return Err(PyValueError::new_err(format!("`skin`: expected a length in Å, 0 or more, found {skin}")));
        }
        Ok(Self { skin, state: Mutex::default(), reused: AtomicU64::new(0) })
    }

    /// What an engine says of structures; to the last bit what it says without lists.
    ///
    /// A list with a skin is dearer than one without, and is made only of atoms that have moved since the last call by less than it
    /// allows for. Of others, such as the images that a shared calculator goes through, none is kept.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn predict(
        &self,
        engine: &Engine,
        structures: Vec<Structure>,
        wanted: Wanted,
    ) -> Result<Vec<Prediction>, ModelError> {
        // A lock that another thread held when this process was forked is never given back.
        let state = self.state.try_lock().map(|mut kept| std::mem::take(&mut *kept)).unwrap_or_default();
        let near = is_near(&state.last, &structures, 0.5 * self.skin);
        let (predictions, lists) = match (near, state.lists) {
            (false, _) => (engine.predict(&structures, wanted)?, None),
            (true, lists) => {
                let before = lists.as_ref().map(Lists::rebuilds);
                let mut lists = lists.unwrap_or_else(|| Lists::new(self.skin).expect("a skin that was checked"));
                let predictions = engine.predict_with(&structures, wanted, &mut lists)?;
                self.reused.fetch_add(u64::from(before == Some(lists.rebuilds())), Ordering::Relaxed);
                (predictions, Some(lists))
            }
        };
        if let Ok(mut kept) = self.state.try_lock() {
            *kept = State { lists, last: structures };
        }
        Ok(predictions)
    }
}

/// Whether structures are those of before with atoms that have moved by at most `most`, Å.
fn is_near(before: &[Structure], now: &[Structure], most: f64) -> bool {
    let moved = |(a, b): (&[f64; 3], &[f64; 3])| (0..3).map(|k| (a[k] - b[k]).powi(2)).sum::<f64>();
    let same = |(a, b): (&Structure, &Structure)| {
        a.n_atoms() == b.n_atoms()
            && (a.cell, a.pbc) == (b.cell, b.pbc)
            && a.positions.iter().zip(&b.positions).map(moved).all(|square| square <= most * most)
    };
    before.len() == now.len() && before.iter().zip(now).all(same)
}

#[pymethods]
impl Neighbors {
    #[new]
    #[pyo3(signature = (skin = SKIN))]
    fn new(skin: f64) -> PyResult<Self> {
        Self::with_skin(skin)
    }

    /// What lists reach further than the cutoff by, Å.
    #[getter]
    fn skin(&self) -> f64 {
        self.skin
    }

    /// Calls that built no list.
    #[getter]
    fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }

    fn __repr__(&self) -> String {
        format!("<forgefield.Neighbors: a skin of {} Å>", self.skin)
    }

    fn __copy__(&self) -> PyResult<Self> {
        Self::with_skin(self.skin)
    }

    fn __deepcopy__(&self, _memo: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::with_skin(self.skin)
    }

    fn __reduce__<'py>(self_: &Bound<'py, Self>) -> (Bound<'py, PyType>, (f64,)) {
        (self_.get_type(), (self_.get().skin,))
    }
}
