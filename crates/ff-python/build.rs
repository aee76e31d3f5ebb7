//! What linkers want of a module whose symbols an interpreter has.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
