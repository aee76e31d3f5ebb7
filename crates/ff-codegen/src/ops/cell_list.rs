//! `cell_list`: every combination of the lists and strategies of its `variants.toml`.

use std::collections::BTreeSet;

use ff_spec::cell_list::{List, OP, Strategy, Variant};
use serde::{Deserialize, Serialize};

use super::registry;
use crate::render::Templates;
use crate::sources::from_toml;
use crate::{CodegenError, GeneratedFile, Sources, TEMPLATE_ROOT};

/// What is rendered.
pub fn files(sources: &Sources, templates: &Templates) -> Result<Vec<GeneratedFile>, CodegenError> {
    let path = format!("{TEMPLATE_ROOT}/{OP}/variants.toml");
    let variants = variants(&path, sources.text(&path, "the lists and strategies to render")?)?;
    Ok(vec![registry(sources, templates, OP, variants.iter().map(VariantContext::new).collect())?])
}

/// `variants.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    list: Vec<List>,
    strategy: Vec<Strategy>,
}

/// The variants that a `variants.toml` asks for, sorted, each once.
fn variants(path: &str, text: &str) -> Result<Vec<Variant>, CodegenError> {
    let File { list, strategy } = from_toml(path, text)?;
    let all = list.iter().flat_map(|list| strategy.iter().map(|strategy| Variant { list: *list, strategy: *strategy }));
    let all: BTreeSet<_> = all.collect();
    if all.is_empty() {
        let message = "no list or no strategy, expected at least one of each".to_owned();
        return Err(CodegenError::Variants { path: path.to_owned(), message });
    }
    Ok(all.into_iter().collect())
}

/// A variant in the context of `mod.rs.tera`.
#[derive(Serialize)]
struct VariantContext {
    variant: String,
    list: &'static str,
    strategy: &'static str,
}

impl VariantContext {
    fn new(variant: &Variant) -> Self {
        Self { variant: variant.id(), list: variant.list.name(), strategy: variant.strategy.name() }
    }
}
