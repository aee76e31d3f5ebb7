//! What is rendered of each op, in one table. An op is a module here and a line of [`ALL`].

mod cell_list;
mod force_scatter;
mod fused_message;
mod vector_norm;

use serde::{Deserialize, Serialize};

use crate::render::{Header, OpContext, Templates};
use crate::sources::from_toml;
use crate::{CodegenError, GENERATED_FOLDERS, GeneratedFile, Sources, TEMPLATE_ROOT};

/// Everything that is rendered of an op.
type Render = fn(&Sources, &Templates) -> Result<Vec<GeneratedFile>, CodegenError>;

/// Every op.
pub const ALL: [(&str, Render); 4] = [
    (ff_spec::cell_list::OP, cell_list::files),
    (ff_spec::force_scatter::OP, force_scatter::files),
    (ff_spec::vector_norm::OP, vector_norm::files),
    (ff_spec::fused_message::OP, fused_message::files),
];

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

/// What is rendered of an op whose `variants.toml` lists ids, and whose registry has nothing besides.
pub fn by_id(sources: &Sources, templates: &Templates, op: &str) -> Result<Vec<GeneratedFile>, CodegenError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        variant: Vec<String>,
    }
    let path = format!("{TEMPLATE_ROOT}/{op}/variants.toml");
    let File { variant } = from_toml(&path, sources.text(&path, "the ids to render")?)?;
    Ok(vec![registry(sources, templates, op, variant)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_op() {
        assert_eq!(ALL.map(|(op, _)| op), *ff_spec::OPS);
    }
}
