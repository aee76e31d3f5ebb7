//! The container: safetensors, read by the crate of that name and written in the order in which it was read.

use ff_spec::Dtype as ElementDtype;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::ModelFile;

/// An element type that weights may be stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredDtype {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl StoredDtype {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F64 => Some(Self::F64),
            Dtype::F32 => Some(Self::F32),
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::Bf16),
            _ => None,
        }
    }
}

impl From<ElementDtype> for StoredDtype {
    fn from(dtype: ElementDtype) -> Self {
        match dtype {
            ElementDtype::F32 => Self::F32,
            ElementDtype::F64 => Self::F64,
        }
    }
}

/// A named tensor as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// SchNetPack's name of the parameter.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type.
    pub dtype: StoredDtype,
    /// Its elements, little-endian, row-major.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Of values in f32.
    ///
    /// # Panics
    /// Where the shape has another number of elements.
    pub fn of_f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { name: name.into(), shape: shape.to_vec(), dtype: StoredDtype::F32, bytes }
    }

    /// Of values in f64.
    ///
    /// # Panics
    /// Where the shape has another number of elements.
    pub fn of_f64(name: impl Into<String>, shape: &[usize], values: &[f64]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { name: name.into(), shape: shape.to_vec(), dtype: StoredDtype::F64, bytes }
    }

    /// Its elements, widened exactly.
    pub fn values(&self) -> Vec<f64> {
        fn each<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| read(*chunk)).collect()
        }
        match self.dtype {
            StoredDtype::F64 => each(&self.bytes, f64::from_le_bytes),
            StoredDtype::F32 => each(&self.bytes, |b| f64::from(f32::from_le_bytes(b))),
            StoredDtype::F16 => each(&self.bytes, |b| f64::from(f16::from_le_bytes(b))),
            StoredDtype::Bf16 => each(&self.bytes, |b| f64::from(bf16::from_le_bytes(b))),
        }
    }

    /// The same tensor with other values, rounded to its element type.
    ///
    /// # Panics
    /// Where there is another number of values.
    pub fn with_values(&self, values: &[f64]) -> Self {
        assert_eq!(self.shape.iter().product::<usize>(), values.len());
        let bytes = match self.dtype {
            StoredDtype::F64 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            StoredDtype::F32 => values.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
            StoredDtype::F16 => values.iter().flat_map(|x| f16::from_f64(*x).to_le_bytes()).collect(),
            StoredDtype::Bf16 => values.iter().flat_map(|x| bf16::from_f64(*x).to_le_bytes()).collect(),
        };
        Self { bytes, ..self.clone() }
    }
}

/// The first bytes of a pickle and of the archive that PyTorch puts pickles in.
const PICKLES: [&[u8]; 3] = [b"PK\x03\x04", b"\x80\x02", b"\x80\x04"];

impl ModelFile {
    /// Reads a file from its bytes; an error says what was found instead.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if PICKLES.iter().any(|start| bytes.starts_with(start)) {
            return Err("a pickle, as torch.save writes it; `schnetpack_to_safetensors.py` converts it".to_owned());
        }
        let read = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        // The crate has checked the header; it is read again for its order.
        let size = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + size])
            .map_err(|error| format!("a header that is no JSON: {error}"))?;
        let mut file = Self::default();
        for (name, entry) in &header {
            if name == "__metadata__" {
                let pairs = entry.as_object().into_iter().flatten();
                file.metadata = pairs.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
                continue;
            }
            let view = read.tensor(name).map_err(|error| error.to_string())?;
            let dtype = StoredDtype::of(view.dtype())
                .ok_or_else(|| format!("tensor `{name}` of {:?}, expected F64, F32, F16 or BF16", view.dtype()))?;
            let (shape, bytes) = (view.shape().to_vec(), view.data().to_vec());
            file.tensors.push(Tensor { name: name.clone(), shape, dtype, bytes });
        }
        Ok(file)
    }

    /// The bytes of the file: the header in the order of metadata and tensors, their data in the same order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header = Map::new();
        if !self.metadata.is_empty() {
            let metadata: Map<String, Value> =
                self.metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
            header.insert("__metadata__".to_owned(), Value::Object(metadata));
        }
        let mut start = 0;
        for Tensor { name, shape, dtype, bytes } in &self.tensors {
            let end = start + bytes.len();
            header.insert(name.clone(), json!({"dtype": dtype.name(), "shape": shape, "data_offsets": [start, end]}));
            start = end;
        }
        let mut header = serde_json::to_vec(&header).expect("strings and numbers");
        // Data start at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(&header);
        self.tensors.iter().for_each(|tensor| file.extend_from_slice(&tensor.bytes));
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> ModelFile {
        ModelFile {
            metadata: vec![("z".into(), "1".into()), ("a".into(), "ü \" \\".into())],
            tensors: vec![
                Tensor::of_f32("w", &[2, 1], &[1.5, -2.0]),
                Tensor::of_f64("a", &[1], &[std::f64::consts::PI]),
                Tensor::of_f32("empty", &[0, 3], &[]),
            ],
        }
    }

    #[test]
    fn a_file_is_read_back_and_written_to_the_same_bytes() {
        let bytes = file().to_bytes();
        let read = ModelFile::from_bytes(&bytes).expect("a file");
        assert_eq!(read, file());
        assert_eq!(read.to_bytes(), bytes);
    }

    #[test]
    fn half_precision_is_widened_exactly() {
        for (dtype, bytes) in [
            (StoredDtype::F16, f16::from_f64(0.1).to_le_bytes()),
            (StoredDtype::Bf16, bf16::from_f64(0.1).to_le_bytes()),
        ] {
            let tensor = Tensor { name: "w".into(), shape: vec![1], dtype, bytes: bytes.to_vec() };
            let values = tensor.values();
            assert!((values[0] - 0.1).abs() < 1e-3 && values[0] != 0.1);
            assert_eq!(tensor.with_values(&values), tensor);
        }
    }

    #[test]
    fn what_is_no_safetensors_file_is_named() {
        assert!(ModelFile::from_bytes(b"PK\x03\x04rest").unwrap_err().contains("pickle"));
        assert!(ModelFile::from_bytes(b"").is_err());
        let mut torn = file().to_bytes();
        torn.pop();
        assert!(ModelFile::from_bytes(&torn).is_err());
    }
}
