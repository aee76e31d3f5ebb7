//! `forgefield._forgefield`: models and neighbour lists on NumPy arrays. What Python sees of it is documented in `python/forgefield`.

mod arrays;
mod engine;
mod kept;
mod model;
mod neighbors;

use pyo3::prelude::*;

#[pymodule]
mod _forgefield {
    #[pymodule_export]
    use super::kept::Neighbors;
    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::neighbors::neighbor_list;

    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::engine::started();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
