//! `force_scatter`: the reductions of its `variants.toml`.

use std::collections::BTreeSet;

use ff_spec::force_scatter::{OP, Reduction, Variant};
use serde::{Deserialize, Serialize};

use super::registry;
use crate::render::Templates;
use crate::sources::from_toml;
use crate::{CodegenError, GeneratedFile, Sources, TEMPLATE_ROOT};

/// What is rendered.
pub fn files(sources: &Sources, templates: &Templates) -> Result<Vec<GeneratedFile>, CodegenError> {
    let path = format!("{TEMPLATE_ROOT}/{OP}/variants.toml");
    let variants = variants(&path, sources.text(&path, "the reductions to render")?)?;
    Ok(vec![registry(sources, templates, OP, variants.iter().map(VariantContext::new).collect())?])
}

/// `variants.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    reduction: Vec<Reduction>,
}

/// The variants that a `variants.toml` asks for, sorted, each once.
fn variants(path: &str, text: &str) -> Result<Vec<Variant>, CodegenError> {
    let File { reduction } = from_toml(path, text)?;
    let all: BTreeSet<_> = reduction.into_iter().map(|reduction| Variant { reduction }).collect();
    if all.is_empty() {
        let message = "no reduction, expected at least one".to_owned();
        return Err(CodegenError::Variants { path: path.to_owned(), message });
    }
    Ok(all.into_iter().collect())
}

/// A variant in the context of `mod.rs.tera`.
#[derive(Serialize)]
struct VariantContext {
    variant: String,
    reduction: &'static str,
}

impl VariantContext {
    fn new(variant: &Variant) -> Self {
        Self { variant: variant.id(), reduction: variant.reduction.name() }
    }
}
