use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::CodegenError;
use crate::nearest::nearest;

/// The folder that [`Sources::load`] reads.
pub const TEMPLATE_ROOT: &str = "kernel-templates";

/// The texts that code is generated from, by path from the workspace root with `/` separators.
#[derive(Clone, Debug, Default)]
pub struct Sources(pub BTreeMap<String, String>);

impl Sources {
    /// Reads every `.toml` and `.tera` file below `kernel-templates/` of a workspace.
    ///
    /// # Errors
    /// [`CodegenError::Read`].
    pub fn load(root: &Path) -> Result<Self, CodegenError> {
        let mut sources = Self::default();
        let mut folders = vec![TEMPLATE_ROOT.to_owned()];
        while let Some(folder) = folders.pop() {
            let read = |error: io::Error| CodegenError::Read { path: folder.clone(), error };
            for entry in fs::read_dir(root.join(&folder)).map_err(read)? {
                let entry = entry.map_err(read)?;
                let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
                if entry.file_type().map_err(read)?.is_dir() {
                    folders.push(path);
                } else if path.ends_with(".toml") || path.ends_with(".tera") {
                    let text = fs::read_to_string(entry.path())
                        .map_err(|error| CodegenError::Read { path: path.clone(), error })?;
                    sources.0.insert(path, text);
                }
            }
        }
        Ok(sources)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// [`CodegenError::Missing`], with what the file should hold.
    pub fn text(&self, path: &str, expected: &'static str) -> Result<&str, CodegenError> {
        self.0.get(path).map(String::as_str).ok_or_else(|| CodegenError::Missing { path: path.to_owned(), expected })
    }

    /// The files directly in `folder` with this extension: (path, file name without the extension, text).
    pub fn in_folder<'a>(
        &'a self,
        folder: &'a str,
        extension: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
        self.0.iter().filter_map(move |(path, text)| {
            let stem = path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(extension)?.strip_suffix('.')?;
            (!stem.contains('/')).then_some((path.as_str(), stem, text.as_str()))
        })
    }
}

/// Reads a TOML text; an unknown key is an error that names the nearest known one.
pub(crate) fn from_toml<T: DeserializeOwned>(path: &str, text: &str) -> Result<T, CodegenError> {
    toml::from_str(text).map_err(|error| {
        // serde says "unknown field `x`, expected one of `a`, `b`" (or "unknown variant"): the names are in backticks.
        let message = error.message();
        let mut names = message.split('`').skip(1).step_by(2);
        let hint = match names.next() {
            Some(found) if message.starts_with("unknown ") => nearest(found, &names.collect::<Vec<_>>()),
            _ => String::new(),
        };
        CodegenError::Toml { path: path.to_owned(), message: error.to_string().trim_end().to_owned(), hint }
    })
}
