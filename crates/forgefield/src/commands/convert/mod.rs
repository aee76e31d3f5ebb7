//! `convert`: a model's file in other units, another element type, and the newest schema.

pub mod args;

use std::fs;

use ff_model::convert::{Conversion, convert};
use ff_model::file::StoredDtype;
use ff_model::{FileError, ModelFile};
use ff_spec::Dtype;

use self::args::ConvertArgs;
use crate::failure::{Failure, Result};
use crate::screen::Screen;

/// Rewrites a model's file.
pub fn run(args: &ConvertArgs, screen: &Screen) -> Result<()> {
    let ConvertArgs { file: input, output, .. } = args;
    let file = ModelFile::read(input).map_err(Failure::input)?;
    if let (Ok(from), Ok(to)) = (fs::canonicalize(input), fs::canonicalize(output))
        && from == to
    {
        let message = format!("{} is the input: expected another file for the output", output.display());
        return Err(Failure::input(message));
    }
    let dtype = args.dtype.map(|dtype| match dtype {
        Dtype::F32 => StoredDtype::F32,
        Dtype::F64 => StoredDtype::F64,
    });
    let to = Conversion { energy: args.energy_unit, length: args.length_unit, dtype };
    let converted =
        convert(&file, to).map_err(|source| Failure::input(FileError::Config { path: input.clone(), source }))?;
    converted.write(output).map_err(Failure::input)?;
    let said = |key: &str| converted.get(key).unwrap_or_default().to_owned();
    screen.line(format!(
        "{}: {} tensors, energies in {}, lengths in {}",
        output.display(),
        converted.tensors.len(),
        said("energy_unit"),
        said("length_unit")
    ))
}
