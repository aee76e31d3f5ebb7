//! `forgefield.Model`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use ff_model::{FileError, HostModel, ModelFile, Prediction, Wanted, batch};
use ff_spec::{Dtype, Precision};
use ff_structure::{Structure, elements};
use pyo3::exceptions::{PyOSError, PyTypeError, PyUserWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use pyo3::{IntoPyObjectExt, intern};

use crate::arrays::{Array, array, wrong_shape};
use crate::engine::Engine;
use crate::kept::Neighbors;

/// A model of SchNet or PaiNN with its weights packed for this machine. It never changes: threads and copies share one.
#[pyclass(frozen, module = "forgefield")]
pub struct Model {
    file: ModelFile,
    model: ff_model::Model,
    engine: Engine,
    tabulate: Option<f64>,
    warned: AtomicBool,
}

fn dtype(name: &str) -> PyResult<Dtype> {
    match name {
        "f32" | "float32" => Ok(Dtype::F32),
        "f64" | "float64" => Ok(Dtype::F64),
        _ => Err(PyValueError::new_err(format!("`dtype`: expected f32 or f64, found {name}"))),
    }
}

/// Refuses devices, of which the module has no kernels.
fn on_host(runtime: &str) -> PyResult<()> {
    match runtime {
        "host" => Ok(()),
        "vulkan" | "cuda" | "metal" => Err(PyValueError::new_err(format!(
            "`runtime`: expected host, found {runtime}: the module has no kernels of devices; the program has them, and `forgefield \
             serve --runtime {runtime}` gives their forces to ASE's SocketIOCalculator and to i-PI"
        ))),
        _ => Err(PyValueError::new_err(format!("`runtime`: expected host, found {runtime}"))),
    }
}

fn precision(name: &str) -> PyResult<Precision> {
    name.parse()
        .map_err(|_| PyValueError::new_err(format!("`precision`: expected f32, f16, bf16 or int8, found {name}")))
}

fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// `OSError`, or what it is more exactly, where the system refused; else `ValueError`.
fn file_error(error: &FileError) -> PyErr {
    match error {
        FileError::Io { path, what, source } => match source.raw_os_error() {
            Some(code) => {
                let text = format!("cannot {what} the file: {source}");
                PyOSError::new_err((code, text, path.display().to_string()))
            }
            None => PyOSError::new_err(error.to_string()),
        },
        _ => value_error(error),
    }
}

impl Model {
    fn new(file: ModelFile, dtype: Dtype, tabulate: Option<f64>, precision: Precision) -> Result<Self, String> {
        if let Some(found) = tabulate.filter(|error| !(1e-12..=1e-2).contains(error)) {
            return Err(format!("`tabulate`: expected an error from 1e-12 to 1e-2, found {found}"));
        }
        let model = ff_model::Model::from_file(&file).map_err(|error| error.to_string())?;
        let engine = Engine::new(&model, dtype, tabulate, precision).map_err(|error| error.to_string())?;
        Ok(Self { file, model, engine, tabulate, warned: AtomicBool::new(false) })
    }

    /// Says once that there are elements which the model was not trained on.
    fn warn(&self, py: Python<'_>, species: &[i64]) -> PyResult<()> {
        let trained = &self.model.config().elements;
        if trained.is_empty() || self.warned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut known = [false; 256];
        trained.iter().for_each(|z| known[usize::from(*z)] = true);
        let strange = species.iter().find(|z| usize::try_from(**z).is_ok_and(|z| z < 256 && !known[z]));
        let Some(z) = strange else { return Ok(()) };
        self.warned.store(true, Ordering::Relaxed);
        let name = |z: u8| elements::symbol(z).map_or_else(|| z.to_string(), str::to_owned);
        let names: Vec<String> = trained.iter().map(|z| name(*z)).collect();
        let strange = u8::try_from(*z).map_or_else(|_| z.to_string(), name);
        let text = format!("the model was trained on {}, not on {strange}: what it says is a guess", names.join(", "));
        let text = std::ffi::CString::new(text).map_err(value_error)?;
        PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 2)
    }

    /// Structures of arrays, and where the atoms of each begin and end. Says once of elements that the model was not trained on.
    fn read(
        &self,
        py: Python<'_>,
        positions: &Bound<'_, PyAny>,
        numbers: &Bound<'_, PyAny>,
        cell: Option<&Bound<'_, PyAny>>,
        pbc: Option<&Bound<'_, PyAny>>,
        systems: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Vec<Structure>, Vec<usize>)> {
        let positions = positions_of(positions)?;
        let n_atoms = positions.shape[0];
        let words = format!("[{n_atoms}], an atomic number for each position");
        let numbers = Array::<i64>::new("numbers", numbers)?.of_shape("numbers", &[Some(n_atoms)], &words)?;
        let pbc = pbc.map(|pbc| Array::<u8>::new("pbc", pbc)).transpose()?;
        let cell = cell.map(|cell| Array::<f64>::new("cell", cell)).transpose()?;
        let rows = match systems {
            None => vec![0, n_atoms],
            Some(systems) => {
                let words = format!("[{n_atoms}], the system of each atom");
                let systems = Array::<i64>::new("systems", systems)?.of_shape("systems", &[Some(n_atoms)], &words)?;
                let of_cell = cell.as_ref().filter(|cell| cell.shape.len() == 3).map(|cell| cell.shape[0]);
                let of_pbc = pbc.as_ref().filter(|pbc| pbc.shape.len() == 2).map(|pbc| pbc.shape[0]);
                rows(systems.as_slice(), of_cell.or(of_pbc))?
            }
        };
        let structures = structures(&positions, &numbers, &rows, cell.as_ref(), pbc.as_ref())?;
        self.warn(py, numbers.as_slice())?;
        Ok((structures, rows))
    }

    /// What the model says of structures, in calls that memory suffices for; Ctrl-C is heard between them. Lists are kept of what
    /// one call suffices for: they would take memory that was not counted.
    fn predict(
        &self,
        py: Python<'_>,
        structures: Vec<Structure>,
        wanted: Wanted,
        neighbors: Option<&Neighbors>,
        single: bool,
    ) -> PyResult<Vec<Prediction>> {
        let error = |error: ff_model::ModelError, first: usize| {
            let reason = error.reason();
            match single {
                true => PyValueError::new_err(reason),
                false => PyValueError::new_err(format!("system {}: {reason}", first + error.index())),
            }
        };
        let n_atoms: usize = structures.iter().map(Structure::n_atoms).sum();
        // Few atoms always fit.
        let most = match structures.len() {
            0 | 1 => usize::MAX,
            _ if n_atoms <= FEW => usize::MAX,
            _ => batch::atoms(self.model.config(), self.engine.dtype()),
        };
        if let Some(neighbors) = neighbors
            && n_atoms <= most
        {
            let done = py.detach(|| neighbors.predict(&self.engine, structures, wanted));
            let predictions = done.map_err(|e| error(e, 0))?;
            py.check_signals()?;
            return Ok(predictions);
        }
        let mut predictions = Vec::with_capacity(structures.len());
        while predictions.len() < structures.len() {
            let first = predictions.len();
            let mut atoms = 0;
            let rest = &structures[first..];
            let taken = rest.iter().take_while(|next| {
                let takes = batch::takes(atoms, most, next);
                atoms += next.n_atoms();
                takes
            });
            let part = &rest[..taken.count().max(1)];
            let done = py.detach(|| self.engine.predict(part, wanted));
            predictions.extend(done.map_err(|e| error(e, first))?);
            py.check_signals()?;
        }
        Ok(predictions)
    }
}

/// Atoms that are computed in one call without asking how much memory there is.
const FEW: usize = 1 << 12;

#[pymethods]
impl Model {
    /// Reads a model's file and packs its weights in `dtype`; `tabulate` reads filters from tables that err by at most so much
    /// beside their largest value, `precision` stores numbers in less than f32. `runtime` is the host.
    #[classmethod]
    #[pyo3(signature = (path, dtype = "f32", tabulate = None, precision = "f32", *, runtime = "host"))]
    fn load(
        _class: &Bound<'_, PyType>,
        path: PathBuf,
        dtype: &str,
        tabulate: Option<f64>,
        precision: &str,
        runtime: &str,
    ) -> PyResult<Self> {
        let (dtype, precision) = (self::dtype(dtype)?, self::precision(precision)?);
        on_host(runtime)?;
        let file = ModelFile::read(&path).map_err(|error| file_error(&error))?;
        Self::new(file, dtype, tabulate, precision)
            .map_err(|error| PyValueError::new_err(format!("{}: {error}", path.display())))
    }

    /// Of the bytes of a model's file: what pickles hold.
    #[classmethod]
    #[pyo3(signature = (bytes, dtype = "f32", tabulate = None, precision = "f32"))]
    fn from_bytes(
        _class: &Bound<'_, PyType>,
        bytes: &[u8],
        dtype: &str,
        tabulate: Option<f64>,
        precision: &str,
    ) -> PyResult<Self> {
        let (dtype, precision) = (self::dtype(dtype)?, self::precision(precision)?);
        let found = |found| PyValueError::new_err(format!("expected a safetensors file of a model, found {found}"));
        Self::new(ModelFile::from_bytes(bytes).map_err(found)?, dtype, tabulate, precision)
            .map_err(PyValueError::new_err)
    }

    /// Energy (eV) and, where wanted, forces (eV/Å), stress (eV/Å³, tension positive) and energies of atoms (eV), as a dict.
    ///
    /// positions: [n_atoms, 3], Å. numbers: [n_atoms], atomic numbers. cell: [3, 3], lattice vectors as rows, Å. pbc: which of them
    /// repeat, [3] or one for all. systems: the system of each atom, [n_atoms], ascending; then cell may be [n_systems, 3, 3] and pbc
    /// [n_systems, 3], energy is [n_systems], and stress is [n_systems, 3, 3] with NaN where there is none. neighbors: what keeps lists
    /// for the next call.
    #[pyo3(signature = (
        positions, numbers, cell = None, pbc = None, systems = None, *, forces = true, stress = true, per_atom = false, neighbors = None
    ))]
    #[allow(clippy::too_many_arguments, reason = "as Python has them, by their names")]
    fn compute<'py>(
        &self,
        py: Python<'py>,
        positions: &Bound<'py, PyAny>,
        numbers: &Bound<'py, PyAny>,
        cell: Option<&Bound<'py, PyAny>>,
        pbc: Option<&Bound<'py, PyAny>>,
        systems: Option<&Bound<'py, PyAny>>,
        forces: bool,
        stress: bool,
        per_atom: bool,
        neighbors: Option<&Bound<'py, Neighbors>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (structures, rows) = self.read(py, positions, numbers, cell, pbc, systems)?;
        let (single, n_atoms) = (systems.is_none(), rows[rows.len() - 1]);
        let wanted = Wanted { forces: forces || stress, stress, per_atom };
        let predictions = self.predict(py, structures, wanted, neighbors.map(Bound::get), single)?;

        let result = PyDict::new(py);
        if single {
            result.set_item(intern!(py, "energy"), predictions[0].energy)?;
        } else {
            let energies = array(py, &[predictions.len()], predictions.iter().map(|p| p.energy))?;
            result.set_item(intern!(py, "energy"), energies)?;
        }
        if per_atom {
            let energies = predictions.iter().flat_map(|p| p.energies.iter().copied());
            result.set_item(intern!(py, "energies"), array(py, &[n_atoms], energies)?)?;
        }
        if forces {
            let all = predictions.iter().flat_map(|p| p.forces.as_flattened().iter().copied());
            result.set_item(intern!(py, "forces"), array(py, &[n_atoms, 3], all)?)?;
        }
        if stress && single {
            if let Some(stress) = predictions[0].stress {
                result.set_item(intern!(py, "stress"), array(py, &[3, 3], stress.as_flattened().iter().copied())?)?;
            }
        } else if stress {
            let all = predictions.iter().flat_map(|p| p.stress.unwrap_or([[f64::NAN; 3]; 3]).into_iter().flatten());
            result.set_item(intern!(py, "stress"), array(py, &[predictions.len(), 3, 3], all)?)?;
        }
        Ok(result)
    }

    /// By how much energies (mean absolute, eV/atom), forces and stress (root mean square of components, eV/Å and eV/Å³) differ from
    /// those of the same model in f32 with exact filters, as a dict; arguments as those of `compute`. Stress is there where a system
    /// has one.
    #[pyo3(signature = (positions, numbers, cell = None, pbc = None, systems = None))]
    fn compared_with_f32<'py>(
        &self,
        py: Python<'py>,
        positions: &Bound<'py, PyAny>,
        numbers: &Bound<'py, PyAny>,
        cell: Option<&Bound<'py, PyAny>>,
        pbc: Option<&Bound<'py, PyAny>>,
        systems: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (structures, _) = self.read(py, positions, numbers, cell, pbc, systems)?;
        let reference = HostModel::<f32>::new(&self.model).map_err(value_error)?;
        let done = py.detach(|| self.engine.deviation(&reference, &structures));
        let deviation = done.map_err(|error| match systems {
            None => PyValueError::new_err(error.reason()),
            Some(_) => PyValueError::new_err(format!("system {}: {}", error.index(), error.reason())),
        })?;
        let result = PyDict::new(py);
        result.set_item(intern!(py, "energy"), deviation.energy)?;
        result.set_item(intern!(py, "forces"), deviation.forces)?;
        if let Some(stress) = deviation.stress {
            result.set_item(intern!(py, "stress"), stress)?;
        }
        Ok(result)
    }

    /// Radius beyond which atoms do not see each other, Å.
    #[getter]
    fn cutoff(&self) -> f64 {
        self.model.config().cutoff
    }

    /// Atomic numbers that the model was trained on; empty where its file does not say.
    #[getter]
    fn elements<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.model.config().elements)
    }

    /// Trained parameters.
    #[getter]
    fn parameters(&self) -> usize {
        self.model.weights().n_parameters(self.model.config())
    }

    /// What the file says of itself.
    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        self.file.metadata.iter().try_for_each(|(key, value)| metadata.set_item(key, value))?;
        Ok(metadata)
    }

    /// The element type of the computation: `f32` or `f64`.
    #[getter]
    fn dtype(&self) -> &'static str {
        self.engine.dtype().name()
    }

    /// How numbers are stored: `f32`, `f16`, `bf16` or `int8`.
    #[getter]
    fn precision(&self) -> &'static str {
        self.engine.precision().name()
    }

    /// How much filters that are tables err beside their largest value; `None` where they are exact.
    #[getter]
    fn table_error(&self) -> Option<f64> {
        self.engine.table_error()
    }

    fn __repr__(&self) -> String {
        let stored = match self.engine.precision() {
            Precision::F32 => String::new(),
            reduced => format!(" with {reduced}"),
        };
        format!("<forgefield.Model: {}, {}{stored}>", self.model.config().summary(), self.dtype())
    }

    fn __copy__(self_: Bound<'_, Self>) -> Bound<'_, Self> {
        self_
    }

    fn __deepcopy__<'py>(self_: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        self_
    }

    fn __reduce__<'py>(self_: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = self_.py();
        let model = self_.get();
        let make = self_.get_type().getattr("from_bytes")?;
        let file = PyBytes::new(py, &model.file.to_bytes());
        (make, (file, model.dtype(), model.tabulate, model.precision())).into_bound_py_any(py)
    }
}

/// Positions [n, 3] in Å.
pub fn positions_of<'py>(positions: &Bound<'py, PyAny>) -> PyResult<Array<'py, f64>> {
    Array::<f64>::new("positions", positions)?.of_shape("positions", &[None, Some(3)], "[n_atoms, 3]")
}

/// Where the atoms of each system begin and end, of the system of each atom, which ascends; `n_systems` where it is known.
fn rows(systems: &[i64], n_systems: Option<usize>) -> PyResult<Vec<usize>> {
    let limit = n_systems.unwrap_or(MOST_SYSTEMS);
    let mut rows = vec![0];
    let mut before = 0;
    for (atom, &system) in systems.iter().enumerate() {
        if system < before || usize::try_from(system).is_ok_and(|system| system >= limit) {
            return Err(PyValueError::new_err(format!(
                "`systems`: expected ascending numbers of systems from 0 to {}, found {system} for atom {atom} after {before}",
                limit.saturating_sub(1),
            )));
        }
        for _ in before..system {
            rows.push(atom);
        }
        before = system;
    }
    let end = n_systems.unwrap_or(if systems.is_empty() { 0 } else { before as usize + 1 });
    rows.resize(end + 1, systems.len());
    Ok(rows)
}

/// More systems than atoms that anybody has: a number beyond it is none of a system.
const MOST_SYSTEMS: usize = 1 << 32;

/// Structures of arrays.
fn structures(
    positions: &Array<'_, f64>,
    numbers: &Array<'_, i64>,
    rows: &[usize],
    cell: Option<&Array<'_, f64>>,
    pbc: Option<&Array<'_, u8>>,
) -> PyResult<Vec<Structure>> {
    let n_systems = rows.len() - 1;
    if let Some(cell) = cell
        && !matches!(cell.shape[..], [3, 3])
        && cell.shape != [n_systems, 3, 3]
    {
        return Err(wrong_shape(
            "cell",
            &format!("[3, 3] or [{n_systems}, 3, 3], lattice vectors as rows"),
            &cell.shape,
        ));
    }
    if let Some(pbc) = pbc
        && !matches!(pbc.shape[..], [] | [3])
        && pbc.shape != [n_systems, 3]
    {
        return Err(wrong_shape("pbc", &format!("[], [3] or [{n_systems}, 3]"), &pbc.shape));
    }
    if cell.is_some() && pbc.is_none() {
        return Err(PyTypeError::new_err("`cell` is given without `pbc`, expected which of its directions repeat"));
    }
    let species = numbers.as_slice().iter().enumerate().map(|(atom, z)| {
        u8::try_from(*z).ok().filter(|z| *z > 0).ok_or_else(|| {
            PyValueError::new_err(format!("`numbers`: expected atomic numbers from 1, found {z} for atom {atom}"))
        })
    });
    let species: Vec<u8> = species.collect::<PyResult<_>>()?;
    let positions = positions.as_slice().as_chunks::<3>().0;
    let lattice = |system: usize| {
        let cells = cell?.as_slice().as_chunks::<9>().0;
        let cell = &cells[if cells.len() == 1 { 0 } else { system }];
        let rows = std::array::from_fn(|k| std::array::from_fn(|c| cell[3 * k + c]));
        // Programs that have no lattice vectors have zeros.
        (rows != [[0.0; 3]; 3]).then_some(rows)
    };
    let repeats = |system: usize| match pbc.map(Array::as_slice) {
        None => [false; 3],
        Some([all]) => [*all != 0; 3],
        Some(flags) => {
            let flags = if flags.len() == 3 { flags } else { &flags[3 * system..] };
            std::array::from_fn(|k| flags[k] != 0)
        }
    };
    let structure = |(system, row): (usize, &[usize])| Structure {
        name: String::new(),
        species: species[row[0]..row[1]].to_vec(),
        positions: positions[row[0]..row[1]].to_vec(),
        cell: lattice(system),
        pbc: repeats(system),
    };
    Ok(rows.windows(2).enumerate().map(structure).collect())
}
