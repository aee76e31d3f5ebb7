//! `vector_norm`: the strategies of its `variants.toml`.

use std::collections::BTreeSet;

use ff_spec::vector_norm::{OP, Strategy, Variant};
use serde::{Deserialize, Serialize};

use super::registry;
use crate::render::Templates;
use crate::sources::from_toml;
use crate::{CodegenError, GeneratedFile, Sources, TEMPLATE_ROOT};

/// What is rendered.
pub fn files(sources: &Sources, templates: &Templates) -> Result<Vec<GeneratedFile>, CodegenError> {
    let path = format!("{TEMPLATE_ROOT}/{OP}/variants.toml");
    let variants = variants(&path, sources.text(&path, "the strategies to render")?)?;
    Ok(vec![registry(sources, templates, OP, variants.iter().map(VariantContext::new).collect())?])
}

/// `variants.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    strategy: Vec<Strategy>,
}

/// The variants that a `variants.toml` asks for, sorted, each once.
fn variants(path: &str, text: &str) -> Result<Vec<Variant>, CodegenError> {
    let File { strategy } = from_toml(path, text)?;
    let all: BTreeSet<_> = strategy.into_iter().map(|strategy| Variant { strategy }).collect();
    if all.is_empty() {
        let message = "no strategy, expected at least one".to_owned();
        return Err(CodegenError::Variants { path: path.to_owned(), message });
    }
    Ok(all.into_iter().collect())
}

/// A variant in the context of `mod.rs.tera`.
#[derive(Serialize)]
struct VariantContext {
    variant: String,
    strategy: &'static str,
}

impl VariantContext {
    fn new(variant: &Variant) -> Self {
        Self { variant: variant.id(), strategy: variant.strategy.name() }
    }
}
