//! Tensors of `fused_message` from and to safetensors files.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ff_kernels::fused_message::RadialPair;
use ff_reference::radial::{RadialKind, default_parameters};
use ff_spec::Dtype;
use ff_spec::fused_message::{Activation, Filter, FilterKind, Inputs, Message, Outputs, Radial, Variant};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView};

use crate::failure::{Failure, Result};
use crate::ops::meant;
use crate::tensors::{Tensor, write};

/// Tensors that were read, and what had to be assumed.
pub struct Read {
    /// The tensors, widened exactly.
    pub inputs: Inputs<f64>,
    /// Everything that the file left out, in words.
    pub assumed: Vec<String>,
}

/// Reads the inputs of one call.
///
/// # Errors
/// The first thing that is wrong, with file and tensor, what was expected and what was found.
pub fn read(path: &Path, variant: &Variant, pair: Option<&RadialPair>, dtype: Dtype) -> Result<Read> {
    let bytes = std::fs::read(path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
    parse(&bytes, variant, pair, dtype).map_err(|reason| Failure::input(format!("{}: {reason}", path.display())))
}

fn parse(
    bytes: &[u8],
    variant: &Variant,
    pair: Option<&RadialPair>,
    dtype: Dtype,
) -> std::result::Result<Read, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format!("not a safetensors file: {e}"))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format!("not a safetensors file: {e}"))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let file = File { tensors, metadata, dtype };
    file.known(variant, pair)?;

    let row_ptr = file.indices("row_ptr", 1)?;
    let n_atoms = row_ptr.len().checked_sub(1).ok_or("`row_ptr` has shape [0], expected [n_atoms + 1]")?;
    let sender = file.indices("sender", n_atoms)?;
    let n_edges = sender.len();
    let mut sizes = KnownSizes(BTreeMap::from([("3", 3), ("n_atoms", n_atoms), ("n_edges", n_edges)]));
    let edge_vec = file.values("edge_vec", &["n_edges", "3"], &mut sizes)?;
    let (nodes, vectors) = match variant.message {
        Message::Cfconv => (file.values("x", &["n_atoms", "F"], &mut sizes)?, Vec::new()),
        Message::Painn => {
            // The narrower one first: it says what F is.
            let vectors = file.values("mu", &["n_atoms", "3", "F"], &mut sizes)?;
            sizes.0.insert("3F", 3 * sizes.get("F"));
            (file.values("s", &["n_atoms", "3F"], &mut sizes)?, vectors)
        }
    };
    let features = sizes.get("F");
    let channels = match variant.message {
        Message::Cfconv => "F",
        Message::Painn => "3F",
    };
    let mut assumed = Vec::new();
    let filter = match variant.filter {
        FilterKind::Linear => Filter::Linear {
            a: file.values("A", &["K", channels], &mut sizes)?,
            b: file.values("b", &[channels], &mut sizes)?,
        },
        FilterKind::Mlp => Filter::Mlp {
            a1: file.values("A1", &["K", "H"], &mut sizes)?,
            b1: file.values("b1", &["H"], &mut sizes)?,
            a2: file.values("A2", &["H", channels], &mut sizes)?,
            b2: file.values("b2", &[channels], &mut sizes)?,
            hidden: sizes.get("H"),
            activation: file.activation(&mut assumed)?,
        },
        FilterKind::Tabulated => {
            let values = file.values("table", &["n_nodes", "order", channels], &mut sizes)?;
            Filter::Tabulated { order: sizes.get("order"), n_nodes: sizes.get("n_nodes"), values }
        }
    };
    let r_cut = file.cutoff()?;
    let n_basis = sizes.get("K");
    let mut radial = Radial { r_cut, n_basis, ..Radial::default() };
    if let Some(pair) = pair {
        for (kind, name, declared, found) in [
            (RadialKind::Basis, pair.basis, pair.basis_parameters, &mut radial.basis),
            (RadialKind::Cutoff, pair.cutoff, pair.cutoff_parameters, &mut radial.cutoff),
        ] {
            let defaults = default_parameters(name, kind, r_cut, n_basis).map_err(|e| e.to_string())?;
            for (parameter, per_basis) in declared {
                let tensor = format!("{}.{parameter}", kind.name());
                let values = if file.has(&tensor) {
                    file.values(&tensor, &[if *per_basis { "K" } else { "1" }], &mut sizes)?
                } else {
                    assumed.push(format!("`{tensor}` is not given, the default of `{name}` is used"));
                    defaults.get(*parameter).cloned().unwrap_or_default()
                };
                found.insert((*parameter).to_owned(), values);
            }
        }
    }
    let inputs = Inputs {
        message: variant.message,
        n_atoms,
        features,
        row_ptr,
        sender,
        edge_vec,
        nodes,
        vectors,
        radial,
        filter,
    };
    inputs.check().map_err(|e| e.to_string())?;
    Ok(Read { inputs, assumed })
}

/// Reads ∂L/∂y, or ∂L/∂dq and ∂L/∂dmu, under the names and in the shapes of the outputs.
///
/// # Errors
/// As [`read`].
pub fn read_cotangents(path: &Path, inputs: &Inputs<f64>, dtype: Dtype) -> Result<Outputs<f64>> {
    let bytes = std::fs::read(path).map_err(|e| Failure::input(format!("cannot read {}: {e}", path.display())))?;
    let parse = || -> std::result::Result<Outputs<f64>, String> {
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| format!("not a safetensors file: {e}"))?;
        let file = File { tensors, metadata: HashMap::new(), dtype };
        let known: &[&str] = match inputs.message {
            Message::Cfconv => &["y"],
            Message::Painn => &["dq", "dmu"],
        };
        file.only(known, "a gradient in the outputs")?;
        let mut sizes = KnownSizes(BTreeMap::from([("3", 3), ("n_atoms", inputs.n_atoms), ("F", inputs.features)]));
        let nodes = file.values(known[0], &["n_atoms", "F"], &mut sizes)?;
        let vectors = match inputs.message {
            Message::Cfconv => Vec::new(),
            Message::Painn => file.values("dmu", &["n_atoms", "3", "F"], &mut sizes)?,
        };
        for (name, values) in known.iter().zip([&nodes, &vectors]) {
            if let Some(at) = values.iter().position(|x| !x.is_finite()) {
                return Err(format!("`{name}`[{at}] is {}, expected a finite value", values[at]));
            }
        }
        Ok(Outputs { nodes, vectors })
    };
    parse().map_err(|reason| Failure::input(format!("{}: {reason}", path.display())))
}

/// The sizes that shapes share, by name; a size is learnt from the first tensor that has it.
struct KnownSizes(BTreeMap<&'static str, usize>);

impl KnownSizes {
    fn get(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or(0)
    }
}

struct File<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
    dtype: Dtype,
}

impl<'a> File<'a> {
    fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    fn tensor(&self, name: &str) -> std::result::Result<TensorView<'a>, String> {
        self.tensors.tensor(name).map_err(|_| {
            let mut found = self.tensors.names();
            found.sort_unstable();
            format!("tensor `{name}` is missing; found {}", found.join(", "))
        })
    }

    /// Refuses tensors and metadata that nobody reads.
    fn known(&self, variant: &Variant, pair: Option<&RadialPair>) -> std::result::Result<(), String> {
        let mut known: Vec<String> = ["row_ptr", "sender", "edge_vec", "r_cut"].map(str::to_owned).to_vec();
        let of_message: &[&str] = match variant.message {
            Message::Cfconv => &["x"],
            Message::Painn => &["s", "mu"],
        };
        let of_filter: &[&str] = match variant.filter {
            FilterKind::Linear => &["A", "b"],
            FilterKind::Mlp => &["A1", "b1", "A2", "b2"],
            FilterKind::Tabulated => &["table"],
        };
        known.extend(of_message.iter().chain(of_filter).map(|name| (*name).to_owned()));
        if let Some(pair) = pair {
            known.extend(pair.basis_parameters.iter().map(|(name, _)| format!("basis.{name}")));
            known.extend(pair.cutoff_parameters.iter().map(|(name, _)| format!("cutoff.{name}")));
        }
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        self.only(&known, &format!("`{variant}`"))
    }

    fn only(&self, known: &[&str], reader: &str) -> std::result::Result<(), String> {
        let mut found = self.tensors.names();
        found.sort_unstable();
        match found.into_iter().find(|name| !known.contains(name)) {
            Some(name) => Err(format!(
                "unknown tensor `{name}`{}; {reader} reads {}",
                meant(name, known).trim_end_matches('?'),
                known.join(", ")
            )),
            None => Ok(()),
        }
    }

    /// A vector of u32, from any integer type that holds the values.
    fn indices(&self, name: &str, least: usize) -> std::result::Result<Vec<u32>, String> {
        let view = self.tensor(name)?;
        if view.shape().len() != 1 || (name == "row_ptr" && view.shape()[0] < least) {
            let expected = if name == "row_ptr" { "[n_atoms + 1]" } else { "[n_edges]" };
            return Err(format!("`{name}` has shape {}, expected {expected}", shape(view.shape())));
        }
        let wide: Vec<i128> = match view.dtype() {
            FileDtype::U32 => elements(view.data()).map(|b| u32::from_le_bytes(b).into()).collect(),
            FileDtype::I32 => elements(view.data()).map(|b| i32::from_le_bytes(b).into()).collect(),
            FileDtype::U64 => elements(view.data()).map(|b| u64::from_le_bytes(b).into()).collect(),
            FileDtype::I64 => elements(view.data()).map(|b| i64::from_le_bytes(b).into()).collect(),
            other => return Err(format!("`{name}` has dtype {}, expected u32 (or i32, i64, u64)", named(other))),
        };
        let narrow = |(index, value): (usize, &i128)| {
            u32::try_from(*value).map_err(|_| format!("`{name}`[{index}] is {value}, expected 0 to {}", u32::MAX))
        };
        wide.iter().enumerate().map(narrow).collect()
    }

    /// A tensor of the asked dtype and of a shape over named sizes, widened.
    fn values(
        &self,
        name: &str,
        names: &[&'static str],
        sizes: &mut KnownSizes,
    ) -> std::result::Result<Vec<f64>, String> {
        let view = self.tensor(name)?;
        let values = self.floats(name, &view)?;
        let found = view.shape();
        let known = |n: &str| n.parse().ok().or(sizes.0.get(n).copied());
        let fits = found.len() == names.len() && names.iter().zip(found).all(|(n, f)| known(n).is_none_or(|k| k == *f));
        if !fits {
            let expected: Vec<String> = names
                .iter()
                .map(|n| match known(n) {
                    Some(k) if n.parse::<usize>().is_err() => format!("{n} = {k}"),
                    _ => (*n).to_owned(),
                })
                .collect();
            return Err(format!("`{name}` has shape {}, expected [{}]", shape(found), expected.join(", ")));
        }
        for (n, size) in names.iter().zip(found) {
            sizes.0.insert(n, *size);
        }
        Ok(values)
    }

    fn floats(&self, name: &str, view: &TensorView<'_>) -> std::result::Result<Vec<f64>, String> {
        match (view.dtype(), self.dtype) {
            (FileDtype::F32, Dtype::F32) => Ok(elements(view.data()).map(|b| f32::from_le_bytes(b).into()).collect()),
            (FileDtype::F64, Dtype::F64) => Ok(elements(view.data()).map(f64::from_le_bytes).collect()),
            (found, expected) => {
                let hint = match found {
                    FileDtype::F32 | FileDtype::F64 => format!(", or --dtype {}", named(found)),
                    _ => String::new(),
                };
                Err(format!("`{name}` has dtype {}, expected {expected}{hint}", named(found)))
            }
        }
    }

    fn cutoff(&self) -> std::result::Result<f64, String> {
        match (self.tensors.tensor("r_cut"), self.metadata.get("r_cut")) {
            (Ok(view), _) => match self.floats("r_cut", &view)?[..] {
                [r_cut] => Ok(r_cut),
                _ => Err(format!("`r_cut` has shape {}, expected [] or [1]", shape(view.shape()))),
            },
            (Err(_), Some(text)) => {
                text.parse().map_err(|_| format!("metadata `r_cut` is `{text}`, expected a radius in Å"))
            }
            (Err(_), None) => Err("no cutoff radius, expected a tensor or metadata `r_cut` in Å".to_owned()),
        }
    }

    fn activation(&self, assumed: &mut Vec<String>) -> std::result::Result<Activation, String> {
        match self.metadata.get("activation").map(String::as_str) {
            Some(found) => Activation::ALL.into_iter().find(|one| one.name() == found).ok_or_else(|| {
                format!("metadata `activation` is `{found}`, expected `shifted_softplus`, `tanh` or `silu`")
            }),
            None => {
                assumed.push("metadata `activation` is not given, `shifted_softplus` is used".to_owned());
                Ok(Activation::ShiftedSoftplus)
            }
        }
    }
}

/// The elements of a tensor as little-endian bytes; safetensors has checked the length.
fn elements<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks().0.iter().copied()
}

fn shape(sizes: &[usize]) -> String {
    format!("[{}]", sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))
}

fn named(dtype: FileDtype) -> String {
    format!("{dtype:?}").to_lowercase()
}

/// Inputs as a safetensors file that [`read`] reads, with more tensors than that if there are any; r_c is the tensor `r_cut`.
///
/// # Errors
/// What the format cannot hold.
pub fn write_inputs<'a>(
    inputs: &'a Inputs<f64>,
    more: impl Iterator<Item = (String, Vec<usize>, &'a [f64])>,
    dtype: Dtype,
) -> Result<Vec<u8>> {
    let mut all = vec![
        Tensor::indices("row_ptr", &inputs.row_ptr),
        Tensor::indices("sender", &inputs.sender),
        Tensor::floats("r_cut", vec![1], &[inputs.radial.r_cut], dtype),
    ];
    all.extend(
        inputs
            .tensors()
            .into_iter()
            .chain(more)
            .map(|(name, shape, values)| Tensor::floats(name, shape, values, dtype)),
    );
    let activation = match &inputs.filter {
        Filter::Mlp { activation, .. } => Some(activation.name()),
        _ => None,
    };
    write(&all, activation.map(|name| ("activation", name.to_owned())))
}

/// The outputs, and more tensors if there are any, as a safetensors file; `note` goes under the metadata key `forgefield`.
///
/// # Errors
/// What the format cannot hold.
pub fn write_outputs(
    outputs: &Outputs<f64>,
    more: Vec<(String, Vec<usize>, &[f64])>,
    inputs: &Inputs<f64>,
    dtype: Dtype,
    note: String,
) -> Result<Vec<u8>> {
    let (n, f) = (inputs.n_atoms, inputs.features);
    let mut all = match inputs.message {
        Message::Cfconv => vec![Tensor::floats("y", vec![n, f], &outputs.nodes, dtype)],
        Message::Painn => vec![
            Tensor::floats("dq", vec![n, f], &outputs.nodes, dtype),
            Tensor::floats("dmu", vec![n, 3, f], &outputs.vectors, dtype),
        ],
    };
    all.extend(more.into_iter().map(|(name, shape, values)| Tensor::floats(name, shape, values, dtype)));
    write(&all, Some(("forgefield", note)))
}
