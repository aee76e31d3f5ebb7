//! NumPy arrays in and out.
//!
//! The stable ABI has no buffer protocol before Python 3.11, so memory is reached through `__array_interface__`. Arrays that are
//! contiguous and of the type wanted are read where they are; others are converted by NumPy first.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyDict, PyTuple};
use pyo3::{IntoPyObjectExt, intern};

/// What NumPy calls elements of a type.
pub trait Element: Copy {
    /// Its type string, in this machine's byte order.
    const NAME: &'static str;
    /// Kinds of arrays that are converted to it.
    const FROM: &'static str;
    /// What these are called.
    const EXPECTED: &'static str;
}

impl Element for f64 {
    const NAME: &'static str = "f8";
    const FROM: &'static str = "fiu";
    const EXPECTED: &'static str = "real numbers";
}

impl Element for i64 {
    const NAME: &'static str = "i8";
    const FROM: &'static str = "iu";
    const EXPECTED: &'static str = "integers";
}

/// Truth values, which are one byte each.
impl Element for u8 {
    const NAME: &'static str = "?";
    const FROM: &'static str = "b";
    const EXPECTED: &'static str = "truth values";
}

fn numpy<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    static ASARRAY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let cell = if name == "asarray" { &ASARRAY } else { &EMPTY };
    Ok(cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import("numpy")?.getattr(name)?.unbind()))?.bind(py).clone())
}

/// An array whose elements can be read.
pub struct Array<'py, T> {
    // Keeps the memory.
    _object: Bound<'py, PyAny>,
    /// Its shape.
    pub shape: Vec<usize>,
    data: *const T,
}

impl<'py, T: Element> Array<'py, T> {
    /// Whatever NumPy makes an array of.
    ///
    /// # Errors
    /// `TypeError` for elements of another kind; what NumPy raises where it can make no array.
    pub fn new(name: &str, object: &Bound<'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let asarray = numpy(py, "asarray")?;
        let any = asarray.call1((object,))?;
        let dtype = any.getattr(intern!(py, "dtype"))?;
        let kind: String = dtype.getattr(intern!(py, "kind"))?.extract()?;
        let shape: Vec<usize> = any.getattr(intern!(py, "shape"))?.extract()?;
        // An empty list is one of floating point numbers, whatever it would have been of.
        if !T::FROM.contains(&kind) && !shape.contains(&0) {
            return Err(PyTypeError::new_err(format!("`{name}`: expected {}, found {}", T::EXPECTED, dtype.str()?)));
        }
        static ORDER: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
        let order = ORDER.get_or_try_init(py, || Ok::<_, PyErr>([("order", "C")].into_py_dict(py)?.unbind()))?;
        let object = asarray.call((any, T::NAME), Some(order.bind(py)))?;
        let data = pointer(&object)? as *const T;
        Ok(Self { _object: object, shape, data })
    }

    /// Its elements in C order.
    pub fn as_slice(&self) -> &[T] {
        let len = self.shape.iter().product();
        if len == 0 {
            return &[];
        }
        // SAFETY: NumPy made or passed on a contiguous array of this type and shape, which `_object` keeps alive. It is read under
        // the interpreter's lock and never kept beyond it, so that no Python code writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.data, len) }
    }

    /// The same where its shape is `expected`, whose `None` may be anything.
    ///
    /// # Errors
    /// `ValueError`.
    pub fn of_shape(self, name: &str, expected: &[Option<usize>], words: &str) -> PyResult<Self> {
        let fits = self.shape.len() == expected.len()
            && self.shape.iter().zip(expected).all(|(found, expected)| expected.is_none_or(|n| n == *found));
        if fits { Ok(self) } else { Err(wrong_shape(name, words, &self.shape)) }
    }
}

/// An error on an array's shape.
pub fn wrong_shape(name: &str, expected: &str, found: &[usize]) -> PyErr {
    PyValueError::new_err(format!("`{name}`: expected shape {expected}, found {found:?}"))
}

/// Where a contiguous array's memory begins.
fn pointer(array: &Bound<'_, PyAny>) -> PyResult<usize> {
    let py = array.py();
    let interface = array.getattr(intern!(py, "__array_interface__"))?;
    if !interface.get_item(intern!(py, "strides"))?.is_none() {
        return Err(PyValueError::new_err("expected a contiguous array of NumPy, found one with strides"));
    }
    let (address, _read_only): (usize, bool) = interface.get_item(intern!(py, "data"))?.extract()?;
    Ok(address)
}

/// A new array of a shape with the elements of `values`, which are as many.
pub fn array<'py, T: Element>(
    py: Python<'py>,
    shape: &[usize],
    values: impl Iterator<Item = T>,
) -> PyResult<Bound<'py, PyAny>> {
    let sizes = PyTuple::new(py, shape)?;
    let array = numpy(py, "empty")?.call1((sizes, T::NAME))?;
    let len: usize = shape.iter().product();
    if len > 0 {
        let data = pointer(&array)? as *mut T;
        let mut filled = 0;
        for value in values.take(len) {
            // SAFETY: NumPy has just made this array of `len` elements of this type, nobody else has it yet, and `filled` < `len`.
            unsafe { data.add(filled).write(value) };
            filled += 1;
        }
        assert_eq!(filled, len, "elements of an array of shape {shape:?}");
    }
    array.into_bound_py_any(py)
}
