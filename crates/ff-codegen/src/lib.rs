//! Variants and templates to Rust source: a pure function from the texts under `kernel-templates/` to generated files.
//!
//! Radial functions are written once, as a formula in a TOML file; their derivatives to third order are symbolic, and
//! host and cube code is rendered from the same straight-line form. Nothing here knows a GPU, runs rustfmt or writes a
//! file: `cargo xtask codegen` does.

mod differentiate;
mod error;
mod expr;
mod lower;
mod nearest;
mod ops;
mod parse;
mod radial;
mod render;
mod simplify;
mod sources;
#[cfg(test)]
mod tests;

use ff_spec::OPS;

pub use error::CodegenError;
pub use parse::ParseError;
pub use render::HEADER_START;
pub use sources::{Sources, TEMPLATE_ROOT};

use render::{Header, SharedContext, Templates, content_hash};

/// A file to be formatted and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Path from the workspace root, with `/` separators.
    pub path: String,
    /// Its text before formatting.
    pub text: String,
}

/// Folders that hold nothing but what [`generate`] returns.
pub const GENERATED_FOLDERS: [&str; 4] = [
    "crates/ff-kernels/src/generated",
    "crates/ff-reference/src/generated",
    "crates/ff-host/src/generated",
    "crates/ff-cube/src/generated",
];

/// Everything that is generated, sorted by path.
///
/// # Errors
/// [`CodegenError`]: the first source that is missing, malformed or refuses to render.
pub fn generate(sources: &Sources) -> Result<Vec<GeneratedFile>, CodegenError> {
    generate_with(sources, None)
}

/// The same, with an op that this crate was built without: as its module, where that renders ids alone, will render it.
///
/// # Errors
/// As [`generate`].
pub fn generate_with(sources: &Sources, new: Option<&str>) -> Result<Vec<GeneratedFile>, CodegenError> {
    let templates = Templates::new(sources)?;
    let [kernels, reference, ..] = GENERATED_FOLDERS;
    let mut files = Vec::new();
    for (_, of_op) in ops::ALL {
        files.extend(of_op(sources, &templates)?);
    }
    if let Some(op) = new {
        files.extend(ops::by_id(sources, &templates, op)?);
    }

    let shared = format!("{TEMPLATE_ROOT}/_shared");
    let hash = |op: &str| {
        let folders = [format!("{TEMPLATE_ROOT}/{op}/"), format!("{shared}/")];
        let inputs = sources.0.keys().map(String::as_str);
        (
            op.to_owned(),
            content_hash(sources, inputs.filter(|path| folders.iter().any(|folder| path.starts_with(folder)))),
        )
    };
    let context = SharedContext { hashes: OPS.iter().copied().chain(new).map(hash).collect() };
    for (template, path) in
        [("generated_mod", format!("{kernels}/mod.rs")), ("reference_mod", format!("{reference}/mod.rs"))]
    {
        let header = Header::new(sources, &format!("{shared}/{template}.rs.tera"), &[]);
        files.push(GeneratedFile { path, text: templates.render(&header, &context)? });
    }

    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
