//! `fused_message`: its radial functions for host, cube and oracle, and the variants of its `variants.toml`.

mod variants;

use ff_spec::fused_message::{OP, Variant};
use serde::Serialize;

use super::registry;
use crate::radial::Radial;
use crate::render::{Header, RadialContext, RadialListContext, Templates};
use crate::{CodegenError, GENERATED_FOLDERS, GeneratedFile, Sources, TEMPLATE_ROOT};

/// What is rendered.
pub fn files(sources: &Sources, templates: &Templates) -> Result<Vec<GeneratedFile>, CodegenError> {
    let folder = format!("{TEMPLATE_ROOT}/{OP}");
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
    files.push(registry(sources, templates, OP, variants.iter().map(VariantContext::new).collect())?);
    Ok(files)
}

/// A variant in the context of `mod.rs.tera`.
#[derive(Serialize)]
struct VariantContext<'a> {
    variant: String,
    message: &'static str,
    filter: &'static str,
    /// Null for a tabulated filter, as is the cutoff.
    basis: Option<&'a str>,
    cutoff: Option<&'a str>,
    reduction: &'static str,
}

impl<'a> VariantContext<'a> {
    fn new(variant: &'a Variant) -> Self {
        let radial = variant.radial.as_ref();
        Self {
            variant: variant.id(),
            message: variant.message.name(),
            filter: variant.filter.name(),
            basis: radial.map(|(basis, _)| basis.as_str()),
            cutoff: radial.map(|(_, cutoff)| cutoff.as_str()),
            reduction: variant.reduction.name(),
        }
    }
}
