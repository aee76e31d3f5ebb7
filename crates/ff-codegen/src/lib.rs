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
mod parse;
mod radial;
mod render;
mod simplify;
mod sources;
#[cfg(test)]
mod tests;
mod variants;

use ff_spec::{OPS, cell_list, force_scatter, fused_message};
use serde::Serialize;

pub use error::CodegenError;
pub use parse::ParseError;
pub use render::HEADER_START;
pub use sources::{Sources, TEMPLATE_ROOT};

use radial::Radial;
use render::{
    CellListContext, ForceScatterContext, Header, MessageContext, OpContext, RadialContext, RadialListContext,
    SharedContext, Templates, content_hash,
};

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
    let templates = Templates::new(sources)?;
    let [kernels, reference, ..] = GENERATED_FOLDERS;
    let mut files = fused_message_files(sources, &templates)?;
    files.extend(cell_list_files(sources, &templates)?);
    files.extend(force_scatter_files(sources, &templates)?);

    let shared = format!("{TEMPLATE_ROOT}/_shared");
    let hash = |op: &&'static str| {
        let folders = [format!("{TEMPLATE_ROOT}/{op}/"), format!("{shared}/")];
        let inputs = sources.0.keys().map(String::as_str);
        (*op, content_hash(sources, inputs.filter(|path| folders.iter().any(|folder| path.starts_with(folder)))))
    };
    let context = SharedContext { hashes: OPS.iter().map(hash).collect() };
    for (template, path) in
        [("generated_mod", format!("{kernels}/mod.rs")), ("reference_mod", format!("{reference}/mod.rs"))]
    {
        let header = Header::new(sources, &format!("{shared}/{template}.rs.tera"), &[]);
        files.push(GeneratedFile { path, text: templates.render(&header, &context)? });
    }

    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn fused_message_files(sources: &Sources, templates: &Templates) -> Result<Vec<GeneratedFile>, CodegenError> {
    let op = fused_message::OP;
    let folder = format!("{TEMPLATE_ROOT}/{op}");
    let radial = Radial::load_all(sources, &folder)?;
    let variants_path = format!("{folder}/variants.toml");
    let variants_text = sources.text(&variants_path, "axes and combinations of the variants to render")?;
    let variants = variants::expand(&variants_path, variants_text, &radial)?;

    let [_, reference, host, cube] = GENERATED_FOLDERS;
    let mut files = Vec::new();
    let mut emit = |path: String, text| files.push(GeneratedFile { path, text });

    for function in &radial {
        for (template, target) in [("radial_host.rs.tera", host), ("radial_cube.rs.tera", cube)] {
            let header = Header::new(sources, &format!("{folder}/{template}"), &[&function.path]);
            let text = templates.render(&header, &RadialContext::new(function))?;
            emit(format!("{target}/{}.rs", function.name), text);
        }
    }
    let radial_paths: Vec<&str> = radial.iter().map(|r| r.path.as_str()).collect();
    for (template, path) in [
        ("radial_host_mod.rs.tera", format!("{host}/mod.rs")),
        ("radial_cube_mod.rs.tera", format!("{cube}/mod.rs")),
        ("radial_data.rs.tera", format!("{reference}/radial_functions.rs")),
    ] {
        let mut header = Header::new(sources, &format!("{folder}/{template}"), &radial_paths);
        header.data = vec![format!("{folder}/bases/*.toml")];
        emit(path, templates.render(&header, &RadialListContext::new(&radial))?);
    }
    files.push(registry(sources, templates, op, variants.iter().map(MessageContext::new).collect())?);
    Ok(files)
}

fn cell_list_files(sources: &Sources, templates: &Templates) -> Result<Vec<GeneratedFile>, CodegenError> {
    let op = cell_list::OP;
    let path = format!("{TEMPLATE_ROOT}/{op}/variants.toml");
    let variants = variants::cell_lists(&path, sources.text(&path, "the lists and strategies to render")?)?;
    Ok(vec![registry(sources, templates, op, variants.iter().map(CellListContext::new).collect())?])
}

fn force_scatter_files(sources: &Sources, templates: &Templates) -> Result<Vec<GeneratedFile>, CodegenError> {
    let op = force_scatter::OP;
    let path = format!("{TEMPLATE_ROOT}/{op}/variants.toml");
    let variants = variants::force_scatters(&path, sources.text(&path, "the reductions to render")?)?;
    Ok(vec![registry(sources, templates, op, variants.iter().map(ForceScatterContext::new).collect())?])
}

/// The file that lists an op's variants.
fn registry<V: Serialize>(
    sources: &Sources,
    templates: &Templates,
    op: &str,
    variants: Vec<V>,
) -> Result<GeneratedFile, CodegenError> {
    let [kernels, ..] = GENERATED_FOLDERS;
    let folder = format!("{TEMPLATE_ROOT}/{op}");
    let header = Header::new(sources, &format!("{folder}/mod.rs.tera"), &[&format!("{folder}/variants.toml")]);
    Ok(GeneratedFile { path: format!("{kernels}/{op}.rs"), text: templates.render(&header, &OpContext { variants })? })
}
